"""Scores or prompts -> spans, tags, texts."""
