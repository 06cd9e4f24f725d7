"""Models that are trained on images, one per file; `list_models` returns all of them by name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
