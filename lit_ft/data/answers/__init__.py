"""Questions about contexts: places of answers, windows, labels."""
