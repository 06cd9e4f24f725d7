"""Files of weights: safe reading, matching with a network by name, and digests."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
