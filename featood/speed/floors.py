"""Floors: the time of the matrix products, decompositions and copies that a head cannot do without."""

from __future__ import annotations

__all__ = ["FLOORS", "Floor", "Operations"]

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from featood.speed.synthetic import Size
from featood.speed.timing import seconds


class Operations:
    """Times of single operations with PyTorch and LAPACK, each measured once and remembered.

    Parameters
    ----------
    repeat : int
        Number of runs; the fastest counts.
    """

    def __init__(self, repeat: int = 3) -> None:
        self.repeat = repeat
        self.product = functools.cache(self._product)
        self.syrk = functools.cache(self._syrk)
        self.eigh = functools.cache(self._eigh)
        self.copy = functools.cache(self._copy)

    def _product(self, rows: int, inner: int, columns: int) -> float:
        """Seconds of a float32 product ``[rows, inner] @ [inner, columns]``, in blocks of rows."""
        left, right = torch.randn(min(rows, 4096), inner), torch.randn(inner, columns)
        out = torch.empty(len(left), columns)
        took, _ = seconds(lambda: torch.mm(left, right, out=out), self.repeat)
        return took * rows / len(left)

    def _syrk(self, rows: int, features: int) -> float:
        """Seconds of the symmetric half of ``X.T @ X`` for ``[rows, features]`` in float64, in blocks of rows."""
        from scipy.linalg.blas import dsyrk

        block = np.random.default_rng(0).normal(size=(min(rows, 4096), features))
        total = np.zeros((features, features), order="F")
        took, _ = seconds(lambda: dsyrk(1.0, block.T, beta=1.0, c=total, overwrite_c=1), self.repeat)
        return took * rows / len(block)

    def _eigh(self, size: int) -> float:
        """Seconds of all eigenvalues and eigenvectors of a symmetric float64 matrix."""
        rows = torch.randn(2 * size, size, dtype=torch.float64)
        took, _ = seconds(lambda: torch.linalg.eigh(rows.T @ rows), self.repeat)
        return took

    def _copy(self, values: int) -> float:
        """Seconds of copying float32 values."""
        source = torch.randn(values)
        target = torch.empty_like(source)
        took, _ = seconds(lambda: target.copy_(source), self.repeat)
        return took


class Floor(NamedTuple):
    """Seconds that a fit and a scoring need at least; a function of sizes and operations, or None."""

    fit: Callable[[Size, Operations], float] | None
    score: Callable[[Size, Operations], float] | None


def _nothing(size: Size, of: Operations) -> float:
    return 0.0


def _logits(size: Size, of: Operations) -> float:
    return of.copy(size.test_rows * size.classes)


def _scatter(size: Size, of: Operations) -> float:
    return of.syrk(size.rows, size.features)


def _principal(size: Size, of: Operations) -> float:
    return of.syrk(size.rows, size.features) + of.eigh(size.features)


def _layer(size: Size, of: Operations) -> float:
    return of.product(size.test_rows, size.features, size.classes)


def _whitened(size: Size, of: Operations) -> float:
    return of.product(size.test_rows, size.features, size.features)


def _half(size: Size, of: Operations) -> float:
    return of.product(size.test_rows, size.features, max(size.features // 2, 1))


FLOORS: Mapping[str, Floor] = {
    **dict.fromkeys(("msp", "max-logit", "energy", "entropy", "gen", "doctor", "margin"), Floor(None, _logits)),
    "kl-matching": Floor(
        lambda s, of: of.copy(s.rows * s.classes), lambda s, of: of.product(s.test_rows, s.classes, s.classes)
    ),
    "mahalanobis": Floor(_scatter, lambda s, of: _whitened(s, of) + _layer(s, of)),
    "mahalanobis-pp": Floor(_scatter, lambda s, of: _whitened(s, of) + _layer(s, of)),
    "relative-mahalanobis": Floor(_scatter, lambda s, of: 2 * _whitened(s, of) + _layer(s, of)),
    "gmm": Floor(_scatter, lambda s, of: s.classes * _whitened(s, of)),
    "knn": Floor(
        lambda s, of: of.copy(s.rows * s.features),
        lambda s, of: of.product(s.test_rows, s.features, s.rows),
    ),
    "vim": Floor(
        lambda s, of: _principal(s, of) + of.product(s.rows, s.features, s.features // 2 + s.classes),
        lambda s, of: _half(s, of) + _layer(s, of),
    ),
    "residual": Floor(_principal, _half),
    "neco": Floor(_principal, _half),
    "openmax": Floor(_nothing, lambda s, of: of.product(s.test_rows, s.classes, s.classes)),
    **dict.fromkeys(
        ("react", "ash-p", "ash-b", "ash-s", "scale", "vra", "dice", "lts"),
        Floor(None, lambda s, of: _layer(s, of) + of.copy(s.test_rows * s.features)),
    ),
}  # fmt: skip
"""By head."""
