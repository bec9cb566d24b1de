"""Language models cut in two: losses and scores without all logits at once."""
