"""Folders and files that are known by hashes of what went into them."""
