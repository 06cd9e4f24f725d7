"""Heads that compare several predictions of one row."""
