"""torchvision and timm, imported on first use: ``from featood.extractors.vision import timm, torchvision``.

No other module imports them. torchvision's Linux wheels on PyPI are built for CUDA. With a CPU build of PyTorch, their
compiled operators do not load, and the import fails because an operator is not declared, although models, datasets and
transforms use none of them. Declaring two schemas avoids this.
"""

from __future__ import annotations

__all__ = ["timm", "torchvision"]  # noqa: F822  (made by __getattr__)

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

from featood.errors import UsageError

_SCHEMAS = ("nms", "qnms")
_libraries: list[torch.library.Library] = []  # declarations are removed with their library object


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _SCHEMAS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)


def _import_torchvision() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    # submodules of the failed import do not belong to the package that is imported next
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _declare_operators()
    return importlib.import_module("torchvision")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        torchvision = _import_torchvision()  # timm imports it too
        module = torchvision if name == "torchvision" else importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{name} cannot be imported ({error}): pip install {error.name or name}") from error
    globals()[name] = module
    return module
