"""The outputs of a network: selecting the tensor, and deciding whether its columns are classes."""

from __future__ import annotations

__all__ = [
    "KINDS", "Returned", "class_outputs", "declared_density", "declared_kind", "density_of",
    "inferred_kind", "pick_output",
]  # fmt: skip

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from featood.cache.densities import DENSITIES, is_energy
from featood.errors import UsageError

KINDS = ("auto", "classes", "multi-label", "regression", "features")
_FEATURE_NAMES = re.compile("embed|pool|feat|hidden|represent")
_WIDEST_PROJECTION = 4096
"""Outputs wider than this are classes of a large set; embeddings are narrower."""


class Returned(NamedTuple):
    """The selected tensor of what a network returned."""

    values: Tensor
    """``[B, C]``."""
    name: str = ""
    """Its name, if it was selected by name."""
    among: int = 1
    """Number of candidate tensors ``[B, C]``, if it could not be identified uniquely."""


def class_outputs(output: Any) -> Tensor:
    """Select the outputs ``[B, C]`` from what a network returned.

    These are a tensor ``[B, C]``, ``[B, C, 1, 1]`` or ``[B]``; the attribute or key ``logits``, as in transformers and
    torchvision's GoogLeNet; the first element of a tuple or list if it is ``[B, C]``; otherwise the only ``[B, C]``.

    Raises
    ------
    UsageError
        If the outputs cannot be identified.
    """
    return pick_output(output).values


def pick_output(output: Any) -> Returned:
    """Select the outputs as :func:`class_outputs`, and return how they were selected."""
    if isinstance(output, Tensor):
        flat = _flat(output)
        if flat is None:
            raise UsageError(
                f"the backbone returns maps or tokens {list(output.shape)}, not one row of outputs per image: "
                "classifiers return [B, C]; --outputs features pools them, and featood dense extract makes pixels rows"
            )
        return Returned(flat)
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor) and _flat(named) is not None:
        return Returned(_flat(named), "logits")  # type: ignore[arg-type]
    parts: dict[str, Any] = {}
    if isinstance(output, Mapping):
        parts = {str(name): value for name, value in output.items()}
    elif isinstance(output, tuple | list):
        parts = {str(index): value for index, value in enumerate(output)}
    vectors = {
        name: flat
        for name, value in parts.items()
        if isinstance(value, Tensor) and value.ndim > 1 and (flat := _flat(value)) is not None
    }
    if isinstance(output, tuple | list) and "0" in vectors:
        return Returned(vectors["0"], among=len(vectors))
    if len(vectors) == 1:
        ((name, flat),) = vectors.items()
        return Returned(flat, name if isinstance(output, Mapping) else "")
    about = ", ".join(f"{name}: {_describe(value)}" for name, value in list(parts.items())[:6])
    raise UsageError(
        f"the backbone returns {type(output).__name__}{f' ({about})' if about else ''}, in which the outputs of a "
        "classifier cannot be identified: let a callable python:module:name return one tensor [B, C]"
    )


def _flat(values: Tensor) -> Tensor | None:
    if values.ndim == 1 and len(values):
        return values[:, None]
    return values.flatten(1) if values.ndim >= 2 and values.shape[2:].numel() == 1 else None


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    return (
        f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__
    )


def declared_density(module: nn.Module) -> str:
    """Return which of `DENSITIES` the network declares as its attribute ``density_column``; empty if none."""
    declared = getattr(module, "density_column", "")
    return declared if declared in DENSITIES else ""


def density_of(output: Any, column: str) -> Tensor:
    """Return the values ``[B, 1]`` of such a column, from what the network returned."""
    total = class_outputs(output).float().logsumexp(1, keepdim=True)
    return -total if is_energy(column) else total


def declared_kind(makers: Sequence[nn.Module], returned: Returned) -> tuple[str, str] | None:
    """Return the kind of outputs that the network itself declares, and the reason; None if it does not.

    Parameters
    ----------
    makers : sequence of Module
        The network, and the modules in it that produced its output.
    returned : Returned
        Its outputs for a few images.

    Returns
    -------
    kind : str
        ``multi-label``, ``regression`` or ``features``.
    why : str
        The reason.
    """
    width = returned.values.shape[1]
    if returned.name and _FEATURE_NAMES.search(returned.name):
        return "features", f"they are named '{returned.name}'"
    if 0 in _all(makers, "num_classes"):
        return "features", "this model has no classifier (num_classes is 0)"
    if any(_is_projection(maker, width) for maker in makers):
        return (
            "features",
            f"these {width} are an embedding shared with text, not classes (--outputs classes if not)",
        )
    for config in _all(makers, "config"):
        problem = getattr(config, "problem_type", None)
        if problem in ("multi_label_classification", "regression"):
            kind = "regression" if problem == "regression" else "multi-label"
            return kind, f"its configuration declares {problem}"
    return ("regression", "there is only one") if width == 1 else None


def inferred_kind(
    makers: Sequence[nn.Module], returned: Returned, linear: bool, wide_layer: bool
) -> tuple[str, str]:
    """Infer the kind of outputs that the network does not declare, and the reason if it is uncertain.

    Parameters
    ----------
    makers, returned
        See :func:`declared_kind`.
    linear : bool
        Whether they are a linear function of some features.
    wide_layer : bool
        Whether a linear layer on vectors has the same number of outputs.

    Raises
    ------
    UsageError
        If they are probabilities, or cannot be identified among several tensors.
    """
    values = returned.values.float()
    if any(isinstance(maker, nn.Sigmoid | nn.Hardsigmoid) for maker in makers):
        return "multi-label", "the last layer is a sigmoid"
    if (values >= 0).all() and torch.allclose(values.sum(1), torch.ones_like(values[:, 0])):
        raise UsageError(
            "the backbone returns probabilities (they sum to 1), but heads need logits: remove its softmax, or "
            "use them as features with --outputs features"
        )
    if linear:
        return "classes", ""
    if returned.among > 1:
        raise UsageError(
            f"the backbone returns {returned.among} tensors [B, C], and the first is not from a linear classifier: "
            "let a callable python:module:name return only the logits"
        )
    if torch.allclose(values.logsumexp(1), torch.zeros_like(values[:, 0]), atol=1e-4):
        return "classes", "they are log-probabilities"
    owners = [*makers, *_all(makers, "config")]
    declared = [*_all(owners, "num_classes"), *_all(owners, "num_labels")]
    if returned.name == "logits" or values.shape[1] in declared:
        return "classes", ""
    lengths = values.norm(dim=1)
    if wide_layer and not torch.allclose(lengths, lengths.mean().expand_as(lengths), 1e-4):
        return "classes", ""
    return "features", "they are not from a linear classifier (use --outputs classes if they are logits)"


def _all(owners: Sequence[Any], name: str) -> list[Any]:
    return [getattr(owner, name) for owner in owners if getattr(owner, name, None) is not None]


def _is_projection(module: nn.Module, width: int) -> bool:
    """Whether published weights of timm for this architecture end in a projection of this width instead of classes.

    timm declares the width of the projection of a CLIP tower as its number of classes. All classifiers of timm are for
    subsets of ImageNet, so a width that is not the number of classes of such a subset is a projection.
    """
    cfg = getattr(module, "pretrained_cfg", None)
    about = cfg if isinstance(cfg, Mapping) else vars(cfg) if hasattr(cfg, "__dict__") else {}
    architecture = about.get("architecture") or ""
    if width > _WIDEST_PROJECTION or not architecture:
        return False
    from featood.extractors.vision import timm

    if timm.data.infer_imagenet_subset({"num_classes": width}) is not None:
        return False
    published = [timm.get_pretrained_cfg(name) for name in timm.list_pretrained(f"{architecture}.*")]
    return any(config is not None and config.num_classes == width for config in published)
