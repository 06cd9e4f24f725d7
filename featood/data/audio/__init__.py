"""Sets of recordings."""
