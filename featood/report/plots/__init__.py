"""Figures of results, each from arrays to a matplotlib Figure."""
