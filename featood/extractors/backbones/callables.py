"""Backbones made by any Python callable in a module or a file."""

from __future__ import annotations

__all__ = ["build", "load_callable"]

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from featood.errors import DataError, FeatoodError, UsageError
from featood.extractors.backbones.backbone import Built, Request
from featood.extractors.backbones.declared import declared_parts
from featood.extractors.backbones.sources import file_name
from featood.extractors.weights import load_weights
from featood.nets import seeded


def build(name: str, request: Request) -> Built:
    """Call ``package.module:callable`` or ``path/file.py:callable``, which returns the network."""
    target = load_callable(name)
    try:
        with seeded(torch.Generator().manual_seed(request.seed)):
            module = target()
    except FeatoodError:
        raise
    except Exception as error:
        raise DataError(f"python:{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"python:{name} returned {type(module).__name__}, not a torch.nn.Module")
    notes = load_weights(module, request.weights) if request.weights else ()
    found = declared_parts(module)
    place, _, attribute = name.rpartition(":")
    return Built(
        found.module,
        # without the folder; files of the same name are distinguished by the digest of their code
        f"python:{Path(place).name if _is_file(place) else place}:{attribute}",
        file_name(request.weights) or "its own",
        found.transform,
        found.classes,
        found.classes,
        (*notes, *found.notes),
        options=found.options,
    )


def load_callable(name: str) -> Any:
    """Import ``package.module:callable`` or ``path/file.py:callable``.

    Raises
    ------
    UsageError
        If the name has another form, or there is no such callable.
    DataError
        If its module raises an error.
    """
    place, _, attribute = name.rpartition(":")  # the last colon, because paths may begin with a drive
    if not place or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", attribute):
        raise UsageError(
            f"python:{name} is not of the form python:package.module:callable or python:path/file.py:callable"
        )
    is_file = _is_file(place)
    folder = os.path.dirname(os.path.abspath(place)) if is_file else os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        code = _load_file(Path(place)) if is_file else importlib.import_module(place)
        target: Any = code
        for part in attribute.split("."):
            target = getattr(target, part)
    except FeatoodError:
        raise
    except (ImportError, AttributeError) as error:
        raise UsageError(f"python:{name} cannot be imported: {error}") from None
    except Exception as error:  # third-party code may raise anything
        raise DataError(f"python:{name} cannot be imported: {type(error).__name__}: {error}") from error
    return target


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or os.sep in place


def _load_file(path: Path) -> ModuleType:
    """Run a file as a module with a unique name."""
    if not path.is_file():
        raise UsageError(f"there is no file {path} (looked for from {os.getcwd()})")
    name = f"_featood_{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # needed by dataclasses
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
