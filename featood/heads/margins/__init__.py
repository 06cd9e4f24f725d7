"""Heads that learn a latent space with room between the classes."""
