"""What can be known of a module beside its weights: its structure, and the source of its classes."""

from __future__ import annotations

__all__ = ["code_recipe"]

import hashlib
import inspect

from torch import nn


def code_recipe(module: nn.Module) -> tuple[dict[str, str], list[str]]:
    """Describe the code of a module, as part of a recipe.

    Parameters
    ----------
    module : Module
        Any network.

    Returns
    -------
    recipe : dict
        ``structure_sha256``, of what it prints as, and ``code_sha256``, of the source of its classes other than
        PyTorch's.
    unknown : list of str
        A line on each class whose source cannot be had.
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
                f"the source of {kind.__qualname__} is not known, so a change of it goes unnoticed"
            )
    recipe = {
        "structure_sha256": hashlib.sha256(str(module).encode()).hexdigest(),
        "code_sha256": hashlib.sha256("\0".join(sources).encode()).hexdigest(),
    }
    return recipe, unknown
