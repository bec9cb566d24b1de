"""Searches for options: what is searched, Optuna's study of it, trials as processes, what came out."""
