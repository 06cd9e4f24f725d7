"""Detection of duplicate columns, so that a head that sums over columns counts each only once."""

from __future__ import annotations

__all__ = ["distinct_columns", "without_repeats"]

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet

NEGLIGIBLE = 1e-2
"""Tolerance relative to a feature's standard deviation, to allow for computation in e.g. half precision."""
ROUNDING = 1e-6
"""Tolerance relative to the magnitude of a feature that is constant."""


def distinct_columns(source: FeatureSet, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Find feature columns that duplicate another.

    For example, the average of the last stage is often the classifier's input: one column under two names. Two columns
    are duplicates if the recipe of the set says that they are computed in the same way, or if in every block of rows
    the root mean square difference of every feature is below a hundredth of its standard deviation. Rows are read only
    until all pairs of columns with the same width differ.

    Parameters
    ----------
    source : FeatureSet
        The set that has the columns.
    names : sequence of str
        Columns to compare. Among duplicates, the classifier's input is kept, otherwise the column named first.

    Returns
    -------
    distinct : list of str
        The columns to count, in the order of `names`.
    repeated : dict of str to str
        Each duplicate column, and the column that it duplicates.
    """
    names = list(dict.fromkeys(names))
    preferred = sorted(names, key=lambda name: name != source.main)
    made = source.recipe.get("columns", {})
    pairs = [
        (first, other)
        for place, first in enumerate(preferred)
        for other in preferred[place + 1 :]
        if source.feature(first).shape[1] == source.feature(other).shape[1]
    ]
    known = [pair for pair in pairs if pair[0] in made and made[pair[0]] == made.get(pair[1])]
    alike = [*known, *_equal(source, [pair for pair in pairs if pair not in known])]
    repeated: dict[str, str] = {}
    for first, other in sorted(alike, key=lambda pair: preferred.index(pair[0])):
        if first not in repeated:
            repeated.setdefault(other, first)
    return [name for name in names if name not in repeated], repeated


def without_repeats(head: str, source: FeatureSet, names: Sequence[str]) -> list[str]:
    """Return the distinct columns among the default columns of a head.

    Warns
    -----
    UserWarning
        Which columns are left out, and how to include them.
    """
    distinct, repeated = distinct_columns(source, names)
    if repeated:
        which = ", ".join(f"{name} (the same as {first})" for name, first in repeated.items())
        warnings.warn(f"{head}: left out {which}; --features with all names counts them twice", stacklevel=2)
    return distinct


def _equal(source: FeatureSet, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of columns that have the same values in all rows; no pairs if there are no rows."""
    if not pairs or not len(source):
        return []
    for block in source.select(*dict.fromkeys(name for pair in pairs for name in pair)).blocks():
        pairs = [pair for pair in pairs if _close(*(block.features[name][:] for name in pair))]
        if not pairs:
            break
    return pairs


def _close(first: Tensor, other: Tensor) -> bool:
    """Return whether two blocks ``[B, D]`` are equal up to rounding; non-finite values must be so in both."""
    first, other = first.double(), other.double()
    finite = first.isfinite() & other.isfinite()
    if not torch.equal(first.isfinite(), other.isfinite()):
        return False
    first, other = first.where(finite, 0), other.where(finite, 0)
    difference = (first - other).square().mean(0).sqrt()
    allowed = NEGLIGIBLE * first.std(0, correction=0) + ROUNDING * first.square().mean(0).sqrt()
    return bool((difference <= allowed).all())
