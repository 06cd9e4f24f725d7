"""Counts of ID and OOD scores from one sort, from which every detection metric is computed."""

from __future__ import annotations

__all__ = ["ScoreCounts", "checked_indices", "checked_scores", "count_scores", "rank_scores"]

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from featood.errors import DataError


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """Numbers of ID and OOD scores at each distinct value.

    Ties are treated exactly, as each distinct value occurs once, with its multiplicity. Leading axes of the counts are
    resamples of the same scores, so the same expression computes a metric and its bootstrap.

    Attributes
    ----------
    values : ndarray of shape [K]
        The distinct scores, ascending, higher = more out-of-distribution. The first and last may be infinite.
    id, ood : ndarray of int, shape [..., K]
        Numbers of ID and OOD scores equal to each value.
    """

    values: Float[np.ndarray, "K"]
    id: Int[np.ndarray, "*batch K"]
    ood: Int[np.ndarray, "*batch K"]

    @cached_property
    def id_below(self) -> Int[np.ndarray, "... K"]:
        """Number of ID scores at or below each value, shape [..., K]."""
        return self.id.cumsum(-1)

    @cached_property
    def ood_below(self) -> Int[np.ndarray, "... K"]:
        """Number of OOD scores at or below each value, shape [..., K]."""
        return self.ood.cumsum(-1)

    @property
    def n_id(self) -> Int[np.ndarray, "... 1"]:
        """Number of ID scores, shape [..., 1]."""
        return self.id_below[..., -1:]

    @property
    def n_ood(self) -> Int[np.ndarray, "... 1"]:
        """Number of OOD scores, shape [..., 1]."""
        return self.ood_below[..., -1:]

    @cached_property
    def mirrored(self) -> ScoreCounts:
        """The same scores negated, with ID and OOD exchanged."""
        return ScoreCounts(-self.values[::-1], self.ood[..., ::-1], self.id[..., ::-1])


def checked_scores(scores: ArrayLike, side: str) -> Float[np.ndarray, "N"]:
    """Return scores as float64 [N]; raise a `DataError` that names `side` if they are invalid."""
    try:
        scores = np.asarray(scores)
        if scores.dtype.kind not in "fiub":
            raise TypeError
        scores = scores.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):  # torch raises RuntimeError for a tensor with gradient
        raise DataError(f"{side} scores must be an array of real numbers in host memory") from None
    if scores.ndim != 1:
        raise DataError(f"{side} scores must be one per row, got an array of shape {list(scores.shape)}")
    if not len(scores):
        raise DataError(f"there are no {side} scores; a detection metric needs at least one on each side")
    if (missing := np.isnan(scores).sum()) > 0:
        raise DataError(f"{missing} of {len(scores)} {side} scores are NaN; check the features or logits")
    return scores


def checked_indices(values: ArrayLike, what: str) -> Int[np.ndarray, "N"]:
    """Return classes as int64 [N]; raise a `DataError` that names them if they are invalid."""
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iub":
        raise DataError(f"{what} must be one integer per row, got {values.dtype} {list(values.shape)}")
    return values.astype(np.int64)


def rank_scores(
    id_scores: ArrayLike, ood_scores: ArrayLike
) -> tuple[Float[np.ndarray, "K"], Int[np.ndarray, "N"], Int[np.ndarray, "M"]]:
    """Sort all scores, and return the rank of each row among the distinct values.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution; may be infinite.

    Returns
    -------
    values : ndarray of shape [K]
        The distinct scores, ascending.
    id_ranks, ood_ranks : ndarray of int, shape [N] and [M]
        Index of each row's score in `values`.

    Raises
    ------
    DataError
        If either side is empty, not one-dimensional, not real, or contains NaN.
    """
    id_scores, ood_scores = checked_scores(id_scores, "ID"), checked_scores(ood_scores, "OOD")
    values, ranks = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)
    return values, ranks[: len(id_scores)], ranks[len(id_scores) :]


def count_scores(id_scores: ArrayLike, ood_scores: ArrayLike) -> ScoreCounts:
    """Count the ID and OOD scores at each distinct value; see `rank_scores` for arguments and errors."""
    values, id_ranks, ood_ranks = rank_scores(id_scores, ood_scores)
    size = len(values)
    return ScoreCounts(values, np.bincount(id_ranks, minlength=size), np.bincount(ood_ranks, minlength=size))
