"""Heads that fit a density to the features."""
