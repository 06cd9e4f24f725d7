"""Normalising flows of feature vectors and images: log-densities from maps with known determinants."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
