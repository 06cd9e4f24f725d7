"""The classifier's last layer for heads that need it, checked against the features."""

from __future__ import annotations

__all__ = [
    "centred",
    "centred_logits",
    "classifier_state",
    "last_layer",
    "linear_logits",
    "warn_of_centring",
]

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import linear

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.rows import SelectedRows


def last_layer(
    source: FeatureSet, feature: str = "", device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Return ``weight [C, D]`` and ``bias [C]`` in float32.

    Parameters
    ----------
    source : FeatureSet
        A set that carries its classifier.
    feature : str
        The column that is its input; by default the classifier's input.
    device : torch.device
        Device of the returned tensors.

    Raises
    ------
    DataError
        If the set has no classifier.
    UsageError
        If the size of the column does not match the classifier.
    """
    if source.classifier is None:
        raise DataError(f"{source.name} has no classifier weight and bias; extract it again")
    weight, bias = (torch.as_tensor(part, device=device).float() for part in source.classifier)
    size = source.feature(feature).shape[1]
    if size != weight.shape[1]:
        raise UsageError(
            f"the classifier of {source.name} takes {weight.shape[1]} features, column "
            f"'{feature or source.main}' has {size}; leave --feature at its default"
        )
    return {"weight": weight, "bias": bias}


def classifier_state(train: SelectedRows, feature: str = "") -> dict[str, Tensor]:
    """Return the last layer as part of a head's state; raises like :func:`last_layer`."""
    layer = last_layer(train.source, feature, train.device)
    return {name: tensor.clone() for name, tensor in layer.items()}


def linear_logits(vectors: Tensor, layer: Mapping[str, Tensor]) -> Tensor:
    """Logits ``[B, C]`` of vectors ``[B, D]``, in the vectors' precision."""
    return linear(vectors, layer["weight"].to(vectors.dtype), layer["bias"].to(vectors.dtype))


def centred(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the layer with the same softmax whose logits sum to zero in every row.

    This removes a constant added to all biases or a vector added to all rows of the weight, to which the
    cross-entropy is invariant.
    """
    return {name: (part.double() - part.double().mean(0)).to(part.dtype) for name, part in layer.items()}


def centred_logits(logits: Tensor) -> Tensor:
    """Return logits ``[B, C]`` with the same softmax that sum to zero in every row."""
    return logits - logits.mean(1, keepdim=True)


def warn_of_centring(head: str, what: str, level: float) -> None:
    """Warn that a head centres the logits because their negative level would reverse its score."""
    warnings.warn(
        f"{head}: {what} is {level:.3g}, which would reverse the score; the logits were centred over the classes "
        "(their softmax is unchanged)",
        stacklevel=3,
    )
