"""Documents of text -> blocks."""
