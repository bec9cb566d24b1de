"""Training rows that are never all read."""
