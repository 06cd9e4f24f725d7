"""Tables: reading them from files of any format, scaling them, and dealing their rows out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
