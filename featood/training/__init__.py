"""The one training loop: seeds, schedules, checkpoints to resume from, and what to do when a training diverges."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
