"""Orders of rows, and chance, as pure functions of seed and epoch; who gets which rows."""
