"""Adapters of PEFT, and weights in a few bits beside them."""
