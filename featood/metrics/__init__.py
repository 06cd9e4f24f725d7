"""Metrics of detection, calibration and open-set recognition: pure functions on arrays, higher score = more OOD."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
