"""Models: loaded, made, checked, shared out, compiled."""
