"""Texts that belong together, or are scored by how alike they are."""
