"""Heads that read the logits alone."""
