"""Statistics and linear algebra shared by several heads: pure functions on tensors."""
