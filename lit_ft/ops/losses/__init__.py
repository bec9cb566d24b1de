"""Losses as sums and counts, and those of whole rows or pairs."""
