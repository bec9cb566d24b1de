"""Texts and words -> token ids; every token lost is counted."""
