"""The classifier's last layer in heads that need it, checked against the features."""

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
        The column that goes into it; by default the classifier's input.
    device : torch.device
        Where to put them.

    Raises
    ------
    DataError
        When the set comes without its classifier.
    UsageError
        When the column has another size than the classifier takes.
    """
    if source.classifier is None:
        raise DataError(f"{source.name} comes without the classifier's weight and bias; extract it anew")
    weight, bias = (torch.as_tensor(part, device=device).float() for part in source.classifier)
    size = source.feature(feature).shape[1]
    if size != weight.shape[1]:
        raise UsageError(
            f"the classifier of {source.name} takes {weight.shape[1]} features, column "
            f"'{feature or source.main}' has {size}; leave --feature at its default"
        )
    return {"weight": weight, "bias": bias}


def classifier_state(train: SelectedRows, feature: str = "") -> dict[str, Tensor]:
    """Return the last layer of the rows of a fit, for a head's state; raises as :func:`last_layer`."""
    layer = last_layer(train.source, feature, train.device)
    return {name: tensor.clone() for name, tensor in layer.items()}


def linear_logits(vectors: Tensor, layer: Mapping[str, Tensor]) -> Tensor:
    """Logits ``[B, C]`` of vectors ``[B, D]``, in the vectors' precision."""
    return linear(vectors, layer["weight"].to(vectors.dtype), layer["bias"].to(vectors.dtype))


def centred(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the layer of the same softmax whose logits sum to zero in every row.

    A constant on all biases, or a vector on all rows of the weight, is what no cross-entropy can tell; it ends here.
    """
    return {name: (part.double() - part.double().mean(0)).to(part.dtype) for name, part in layer.items()}


def centred_logits(logits: Tensor) -> Tensor:
    """Return logits ``[B, C]`` of the same softmax that sum to zero in every row."""
    return logits - logits.mean(1, keepdim=True)


def warn_of_centring(head: str, what: str, level: float) -> None:
    """Warn that a head, whose score a level of the logits below zero would turn around, centres them first."""
    warnings.warn(
        f"{head}: {what} is {level:.3g}, which would turn the score around; the logits were centred over the classes "
        "(their softmax stays the same)",
        stacklevel=3,
    )
