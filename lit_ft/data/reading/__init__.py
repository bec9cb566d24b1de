"""Rows from files, data sets and memory; which columns are meant."""
