"""Heads that train a classifier or an embedding such that outliers show."""
