"""Normalising flows: densities of the features by maximum likelihood."""
