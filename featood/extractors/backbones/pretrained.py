"""Published weights, weights from a file, or random ones."""

from __future__ import annotations

__all__ = ["pretrained_module"]

import contextlib
import os
import sys
import warnings
from collections.abc import Callable

import torch
from torch import nn

from featood.extractors.backbones.backbone import RANDOM
from featood.extractors.weights import load_weights
from featood.nets import seeded


def pretrained_module(
    make: Callable[[bool], nn.Module], weights: str, what: str, published: str, seed: int
) -> tuple[nn.Module, str]:
    """Return a module with weights from a file, as published, or random where nothing can be downloaded."""
    if weights and weights != RANDOM:
        module = make(False)
        load_weights(module, weights)
        return module, os.path.basename(weights)
    if not weights:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # downloaders talk, and stdout is for results
                return make(True), published
        except (OSError, RuntimeError, ValueError) as error:  # URLError, hub errors, bad checksums
            reason = str(error).strip().split("\n")[0][:120]
            warnings.warn(
                f"the weights of {what} could not be downloaded ({reason}): it has RANDOM weights (seed {seed}), "
                "whose scores mean nothing; give a file by --weights",
                stacklevel=4,
            )
    with seeded(torch.Generator().manual_seed(seed)):
        return make(False), RANDOM
