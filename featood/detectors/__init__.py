"""Detectors, losses and metrics that take a model and its batches, with the names and arguments of pytorch-ood.

A detector wraps a model and scores its inputs by a head of featood. Scores are higher for outliers, and negative
labels mark outliers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
