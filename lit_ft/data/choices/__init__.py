"""Questions with choices: which columns, which texts, which label."""
