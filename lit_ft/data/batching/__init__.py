"""Features -> batches, and back to rows."""
