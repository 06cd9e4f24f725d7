"""Labels, targets and buffers: the small functions that training scripts import."""

from __future__ import annotations

__all__ = [
    "TargetMapping",
    "TensorBuffer",
    "ToRGB",
    "ToUnknown",
    "apply_reduction",
    "as_rows",
    "contains_known",
    "contains_known_and_unknown",
    "contains_unknown",
    "drop_unknown",
    "estimate_class_centers",
    "fix_random_seed",
    "from_rows",
    "is_known",
    "is_unknown",
    "pairwise_distances",
    "to_np",
]

import random
from collections.abc import Iterable, KeysView
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from featood.errors import UsageError
from featood.losses.distances import class_means
from featood.numerics.gaussian import squared_distances


def is_known(labels: Any) -> Any:
    """Whether labels are those of known classes, i.e. at least 0."""
    return labels >= 0


def is_unknown(labels: Any) -> Any:
    """Whether labels mark outliers, i.e. are negative."""
    return labels < 0


def contains_known(labels: Tensor) -> bool:
    """Whether there are known labels."""
    return bool(is_known(labels).any())


def contains_unknown(labels: Tensor) -> bool:
    """Whether there are outliers."""
    return bool(is_unknown(labels).any())


def contains_known_and_unknown(labels: Tensor) -> bool:
    """Whether there are both."""
    return contains_known(labels) and contains_unknown(labels)


def drop_unknown(target: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return targets ``[B]`` and tensors ``[B, ...]`` without the rows of outliers."""
    if target.ndim != 1:
        raise UsageError(f"targets have the shape [B], not {list(target.shape)}")
    known = is_known(target)
    return (target[known], *(values[known] for values in tensors))


def as_rows(logits: Tensor) -> Tensor:
    """Return ``[B, C, ...]`` with each position as a row, ``[N, C]``.

    Raises
    ------
    UsageError
        If there are fewer than two axes.
    """
    if logits.ndim < 2:
        raise UsageError(f"expected [B, C] or [B, C, H, W], got {list(logits.shape)}")
    return logits.movedim(1, -1).reshape(-1, logits.shape[1])


def from_rows(values: Tensor, logits: Tensor) -> Tensor:
    """Return values ``[N]`` of the rows of logits ``[B, C, ...]`` as ``[B, ...]``."""
    return values.view(logits.shape[0], *logits.shape[2:])


def apply_reduction(values: Tensor, reduction: str | None) -> Tensor:
    """Return the mean, the sum, or (``none``) the values."""
    if reduction is None or reduction == "none":
        return values
    if reduction not in ("mean", "sum"):
        raise UsageError(f"a reduction is mean, sum or none, not '{reduction}'")
    return values.mean() if reduction == "mean" else values.sum()


def pairwise_distances(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances ``[N, M]`` of rows ``[N, D]`` and ``[M, D]``, by default the same."""
    return squared_distances(x, x if y is None else y)


def estimate_class_centers(embedding: Tensor, target: Tensor, num_centers: int | None = None) -> Tensor:
    """Mean embedding ``[K, D]`` of each class, zero for classes without rows; K is by default the largest plus 1."""
    return class_means(embedding, target.long(), num_centers or int(target.max()) + 1)[0]


class TensorBuffer:
    """Tensors by key, concatenated when they are read, on one device or (None) where they are."""

    def __init__(self, device: str | torch.device | None = "cpu") -> None:
        self.device = device
        self._parts: dict[Any, list[Tensor]] = {}

    def append(self, key: Any, value: Tensor) -> Self:
        """Add rows to a key."""
        self._parts.setdefault(key, []).append(value.detach().to(self.device))
        return self

    def get(self, key: Any) -> Tensor:
        """Return all rows of a key; KeyError if there are none."""
        return torch.cat(self._parts[key])

    __getitem__ = get

    def __contains__(self, key: Any) -> bool:
        return key in self._parts

    def keys(self) -> KeysView[Any]:
        """Return the keys."""
        return self._parts.keys()

    def all(self) -> dict[Any, Tensor]:
        """Return all rows of all keys."""
        return {key: self[key] for key in self._parts}

    def is_empty(self) -> bool:
        """Whether there are no rows."""
        return not self._parts

    def clear(self) -> Self:
        """Remove all rows."""
        self._parts.clear()
        return self


def to_np(values: Tensor) -> np.ndarray:
    """Return a tensor as an array, without gradients."""
    return values.detach().cpu().numpy()


def fix_random_seed(seed: int = 12345) -> None:
    """Seed the global random generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class ToUnknown:
    """Target transform of a data set of outliers: every target becomes -1."""

    def __call__(self, target: Any) -> int:
        """Return -1."""
        return -1


class ToRGB:
    """Transform of PIL images to RGB; other inputs are returned as they are."""

    def __call__(self, image: Any) -> Any:
        """Return the image in RGB."""
        return image.convert("RGB") if hasattr(image, "convert") else image


class TargetMapping:
    """Target transform for a division of classes: known ones are numbered from 0, unknown ones become negative.

    Parameters
    ----------
    known, unknown : set of int
        Known classes are numbered in ascending order; an unknown class c becomes ``-(c + 1)``, and a class in neither
        set -1.
    """

    def __init__(self, known: Iterable[int], unknown: Iterable[int]) -> None:
        known, unknown = set(known), set(unknown)
        if both := sorted(known & unknown):
            raise UsageError(f"classes cannot be both known and unknown: {both}")
        self._numbers = {label: number for number, label in enumerate(sorted(known))}
        self._numbers |= {label: -(label + 1) for label in unknown}

    def __call__(self, target: Any) -> int:
        """Return the number of a class."""
        return self._numbers.get(int(target), -1)

    def __getitem__(self, target: Any) -> int:
        return self._numbers[int(target)]
