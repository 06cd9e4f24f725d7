"""Demonstrations that need no download."""
