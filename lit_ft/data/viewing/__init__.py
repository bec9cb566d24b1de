"""Rows, sets and batches for people to look at."""
