"""What comes in from elsewhere: files of many formats as named columns, labels of every kind as classes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
