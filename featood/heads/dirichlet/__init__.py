"""Heads that read the logits as the concentration of a Dirichlet distribution over class probabilities."""
