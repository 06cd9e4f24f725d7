"""What a network returns: the one tensor among it that counts, and whether its columns are classes."""

from __future__ import annotations

__all__ = ["KINDS", "Returned", "class_outputs", "declared_kind", "inferred_kind", "pick_output"]

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from featood.errors import UsageError

KINDS = ("auto", "classes", "multi-label", "regression", "features")
_FEATURE_NAMES = re.compile("embed|pool|feat|hidden|represent")
_WIDEST_PROJECTION = 4096
"""Tasks with more outputs than this are classes of a large set; embeddings are narrower."""


class Returned(NamedTuple):
    """The tensor that counts among what a network returned."""

    values: Tensor
    """``[B, C]``."""
    name: str = ""
    """Its name, where it was picked by name."""
    among: int = 1
    """Number of tensors ``[B, C]`` among which the outputs could not be identified."""


def class_outputs(output: Any) -> Tensor:
    """Return the outputs ``[B, C]`` among what a network returned.

    Taken are: a tensor ``[B, C]``, ``[B, C, 1, 1]`` or ``[B]``; what is called ``logits`` in an object or a
    mapping, as in the outputs of transformers and of torchvision's GoogLeNet; the first element of a tuple or
    list where that is ``[B, C]``; else the only ``[B, C]`` that there is.

    Raises
    ------
    UsageError
        If the outputs cannot be identified.
    """
    return pick_output(output).values


def pick_output(output: Any) -> Returned:
    """Do as :func:`class_outputs`, and say how it was picked."""
    if isinstance(output, Tensor):
        flat = _flat(output)
        if flat is None:
            raise UsageError(
                f"the backbone returns maps or tokens {list(output.shape)}, not one row of outputs an image: "
                "classifiers return [B, C] (a segmentation network, say, is none; --outputs features pools them)"
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
        f"the backbone returns {type(output).__name__}{f' ({about})' if about else ''}, and which of it are the "
        "outputs of a classifier cannot be determined: let a callable python:module:name return one tensor [B, C]"
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


def declared_kind(makers: Sequence[nn.Module], returned: Returned) -> tuple[str, str] | None:
    """Return what the network itself says that its outputs are, and where it says so; None where it does not.

    Parameters
    ----------
    makers : sequence of Module
        The network, and the modules in it that made what it returned.
    returned : Returned
        Its outputs for a few images.

    Returns
    -------
    kind : str
        ``multi-label``, ``regression`` or ``features``.
    why : str
        In words.
    """
    width = returned.values.shape[1]
    if returned.name and _FEATURE_NAMES.search(returned.name):
        return "features", f"they are called '{returned.name}'"
    if 0 in _all(makers, "num_classes"):
        return "features", "this model has no classifier (num_classes is 0)"
    if any(_is_projection(maker, width) for maker in makers):
        return "features", f"these {width} are an embedding shared with text, not classes"
    for config in _all(makers, "config"):
        problem = getattr(config, "problem_type", None)
        if problem in ("multi_label_classification", "regression"):
            kind = "regression" if problem == "regression" else "multi-label"
            return kind, f"its configuration says {problem}"
    return ("regression", "there is a single one") if width == 1 else None


def inferred_kind(
    makers: Sequence[nn.Module], returned: Returned, linear: bool, wide_layer: bool
) -> tuple[str, str]:
    """Infer what the outputs are where the network does not declare it, and say why where it is in doubt.

    Parameters
    ----------
    makers, returned
        See :func:`declared_kind`.
    linear : bool
        Whether they are a linear function of some features.
    wide_layer : bool
        Whether a linear layer on vectors is as wide as they.

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
            "the backbone returns probabilities (they sum to 1), and heads need logits: leave its softmax out, or "
            "take them as features by --outputs features"
        )
    if linear:
        return "classes", ""
    if returned.among > 1:
        raise UsageError(
            f"the backbone returns {returned.among} tensors [B, C], and no linear classifier makes the first of them: "
            "let a callable python:module:name return the logits alone"
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
    return "features", "no linear classifier makes them (use --outputs classes if they are logits)"


def _all(owners: Sequence[Any], name: str) -> list[Any]:
    return [getattr(owner, name) for owner in owners if getattr(owner, name, None) is not None]


def _is_projection(module: nn.Module, width: int) -> bool:
    """Say whether timm's published weights for this model end in a projection instead of classes.

    timm gives the width of a CLIP tower's projection as its number of classes; what tells it from a classifier
    is that it is the number of classes of no subset of ImageNet, which all of timm's classifiers are for.
    """
    cfg = getattr(module, "pretrained_cfg", None)
    about = cfg if isinstance(cfg, Mapping) else vars(cfg) if hasattr(cfg, "__dict__") else {}
    tag, architecture = about.get("tag") or "", about.get("architecture") or ""
    if about.get("num_classes") != width or width > _WIDEST_PROJECTION or not architecture:
        return False
    from featood.extractors.vision import timm

    published = timm.models.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    known = published is not None and published.num_classes == width
    return known and timm.data.infer_imagenet_subset({"num_classes": width}) is None
