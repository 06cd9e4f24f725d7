"""Small-image networks by name, and the MLP for feature vectors; pure PyTorch.

Every network maps ``[B, C, H, W]`` to logits ``[B, K]``. Its last layer is an ``nn.Linear``, whose input is the
penultimate feature; its stages, activations and pooling layers are modules, so that hooks can be attached to them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
