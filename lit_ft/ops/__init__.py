"""Ground floor: building models and losses with torch and transformers alone."""
