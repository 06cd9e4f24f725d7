"""Heads that read the logits as the concentration of a Dirichlet distribution over class probabilities."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
