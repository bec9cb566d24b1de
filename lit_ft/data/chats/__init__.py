"""Conversations and preferences, from the formats that people keep them in to token ids."""
