"""Sources and targets of text to text."""
