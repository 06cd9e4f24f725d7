"""Statistics and linear algebra that several heads share: pure functions on tensors."""
