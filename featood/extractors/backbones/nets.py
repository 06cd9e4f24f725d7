"""Our small-image nets as backbones."""

from __future__ import annotations

__all__ = ["build"]

import os
import warnings

import torch

from featood.extractors.backbones.backbone import RANDOM, Built
from featood.extractors.weights import load_weights, read_state_dict
from featood.nets import create_net, net_defaults


def build(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    """Build one of our nets with weights from a file, or random ones."""
    if not weights or weights == RANDOM:
        if not weights:
            warnings.warn(
                f"{name} has random weights (seed {seed}): give trained ones by --weights", stacklevel=3
            )
        generator = torch.Generator().manual_seed(seed)
        return Built(create_net(name, num_classes or 10, generator=generator), f"net:{name}", RANDOM)
    state = read_state_dict(weights)
    matrices = [value for value in state.values() if value.ndim == 2]
    kernels = [value for value in state.values() if value.ndim == 4]
    channels = kernels[0].shape[1] if kernels else net_defaults(name).in_channels
    module = create_net(name, len(matrices[-1]) if matrices else 10, in_channels=channels)
    load_weights(module, weights)
    return Built(module, f"net:{name}", os.path.basename(weights))
