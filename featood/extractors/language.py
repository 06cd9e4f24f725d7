"""sentence-transformers and transformers, imported on first use: ``from featood.extractors.language import NAME``.

No other module imports them. They import torchvision if it is installed, which beside a CPU build of PyTorch fails
unless :mod:`featood.extractors.vision` has imported it.
"""

from __future__ import annotations

__all__ = ["sentence_transformers", "transformers"]  # noqa: F822  (made by __getattr__)

import contextlib
import importlib
from typing import Any

from featood.errors import UsageError


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with contextlib.suppress(UsageError):  # texts need no torchvision
        from featood.extractors.vision import torchvision  # noqa: F401
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{name.replace('_', '-')} cannot be imported ({error}): pip install 'featood[text]'"
        ) from error
    importlib.import_module("transformers").utils.logging.disable_progress_bar()
    globals()[name] = module
    return module
