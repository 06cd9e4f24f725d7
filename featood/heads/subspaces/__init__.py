"""Heads that split the feature space into a principal subspace and its complement."""
