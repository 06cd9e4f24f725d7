"""Demonstrations without downloads."""
