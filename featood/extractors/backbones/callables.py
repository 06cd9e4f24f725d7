"""Backbones made by any Python callable."""

from __future__ import annotations

__all__ = ["build"]

import importlib
import os
import sys
from typing import Any

import torch
from torch import nn

from featood.errors import DataError, FeatoodError, UsageError
from featood.extractors.backbones.backbone import Built
from featood.extractors.transform import Transform
from featood.extractors.weights import load_weights
from featood.nets import seeded


def build(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    """Call ``package.module:callable`` and take the module that it returns."""
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise UsageError(f"python:{name} is not of the form python:package.module:callable")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"python:{name} cannot be imported: {error}") from None
    try:
        with seeded(torch.Generator().manual_seed(seed)):
            module = target()
    except FeatoodError:
        raise
    except Exception as error:  # a stranger's code
        raise DataError(f"python:{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"python:{name} returned {type(module).__name__}, not a torch.nn.Module")
    if weights:
        load_weights(module, weights)
    own = getattr(module, "featood_transform", None)
    transform = None if own is None else Transform.from_json(own)
    return Built(module, f"python:{name}", os.path.basename(weights) or "its own", transform)
