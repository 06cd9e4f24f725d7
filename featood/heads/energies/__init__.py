"""Heads that learn an energy."""
