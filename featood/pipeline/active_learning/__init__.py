"""Active learning: networks that are trained on few images, and choose the images to label next."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
