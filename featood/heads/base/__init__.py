"""What every head is built from: options, rows, state, and the base classes of families."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
