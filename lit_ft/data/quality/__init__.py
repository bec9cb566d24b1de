"""Bad rows: what rows show themselves, how they compare, and what is done about them."""
