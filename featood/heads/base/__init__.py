"""What every head is built from: options, rows, state, and the base classes of families."""
