"""The only training loop: seeds, schedules, checkpoints for resumption, and recovery from divergence."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
