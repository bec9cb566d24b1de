"""Ground floor: sources, columns, tokenization, collators, samplers; no Lightning, no model."""
