"""Digests of the structure of a module and of the source code of its classes."""

from __future__ import annotations

__all__ = ["code_recipe"]

import inspect
from typing import Any

from torch import nn

from featood.sealed import digest


def code_recipe(module: nn.Module) -> tuple[dict[str, str], list[str]]:
    """Describe the code of a module, as part of a recipe.

    Parameters
    ----------
    module : Module
        Any network.

    Returns
    -------
    recipe : dict
        ``structure_sha256`` of its string form and the plain attributes of its modules (numbers, strings, and tuples
        of them), and ``code_sha256`` of the source of its classes other than PyTorch's.
    unknown : list of str
        One line about each class whose source is unavailable.
    """
    kinds = {type(part) for part in module.modules()}
    sources, unknown = [], []
    for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__)):
        if kind.__module__.partition(".")[0] == "torch":
            continue
        try:
            sources.append(inspect.getsource(kind))
        except (OSError, TypeError):
            unknown.append(
                f"the source of {kind.__qualname__} is unavailable, so changes to it cannot be detected"
            )
    recipe = {
        "structure_sha256": digest(
            [str(module), {name: _plain(part) for name, part in module.named_modules()}]
        ),
        "code_sha256": digest(sources),
    }
    return recipe, unknown


def _plain(part: nn.Module) -> dict[str, Any]:
    """Return the attributes that are neither in the state dict nor in the source of a class, such as a scale."""
    return {
        name: repr(value)
        for name, value in vars(part).items()
        if not name.startswith("_") and name != "training" and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
