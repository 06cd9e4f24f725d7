"""Heads that measure distances between features."""
