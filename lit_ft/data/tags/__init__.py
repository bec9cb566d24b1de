"""Tagged words: which columns, which scheme, which ids."""
