"""Models on real tokens alone: how it is found out, laid out and run."""
