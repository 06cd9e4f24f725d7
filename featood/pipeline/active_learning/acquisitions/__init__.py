"""Acquisitions, one in each file."""
