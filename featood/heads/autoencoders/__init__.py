"""Heads that compress and reconstruct the features."""
