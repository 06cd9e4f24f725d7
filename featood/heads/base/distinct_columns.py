"""Columns that hold the same values under several names: a head that adds columns up must count them once."""

from __future__ import annotations

__all__ = ["distinct_columns", "without_repeats"]

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet

NEGLIGIBLE = 1e-2
"""Share of a feature's deviation by which two computations of it may differ, for instance in half precision."""
ROUNDING = 1e-6
"""Share of its size by which they may, where it does not vary."""


def distinct_columns(source: FeatureSet, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Tell which feature columns are new, and which repeat another.

    The average of the last stage is a classifier's input as well: one column under two names. Two columns are one
    where the recipe of the set says that they are made alike, or where in every block of rows the root mean square
    difference of every feature is below a hundredth of its standard deviation. Rows are read only as long as two
    columns of one width have not yet differed.

    Parameters
    ----------
    source : FeatureSet
        The set that has the columns.
    names : sequence of str
        Columns to look at. The classifier's input is preferred to what repeats it, else the column named first.

    Returns
    -------
    distinct : list of str
        The columns to count, in the order of `names`.
    repeated : dict of str to str
        Each of the others, and the column that it repeats.
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
    """Return the distinct ones of the columns that a head takes where none are named.

    Warns
    -----
    UserWarning
        What is left out, and how to have it nonetheless.
    """
    distinct, repeated = distinct_columns(source, names)
    if repeated:
        which = ", ".join(f"{name} (the same as {first})" for name, first in repeated.items())
        warnings.warn(f"{head}: left out {which}; --features with all names counts them twice", stacklevel=2)
    return distinct


def _equal(source: FeatureSet, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of columns that have the same values in every row, of which there must be some."""
    if not pairs or not len(source):
        return []
    for block in source.select(*dict.fromkeys(name for pair in pairs for name in pair)).blocks():
        pairs = [pair for pair in pairs if _close(*(block.features[name][:] for name in pair))]
        if not pairs:
            break
    return pairs


def _close(first: Tensor, other: Tensor) -> bool:
    """Tell whether two blocks ``[B, D]`` are one up to rounding; what is not finite must be so in both."""
    first, other = first.double(), other.double()
    finite = first.isfinite() & other.isfinite()
    if not torch.equal(first.isfinite(), other.isfinite()):
        return False
    first, other = first.where(finite, 0), other.where(finite, 0)
    difference = (first - other).square().mean(0).sqrt()
    allowed = NEGLIGIBLE * first.std(0, correction=0) + ROUNDING * first.square().mean(0).sqrt()
    return bool((difference <= allowed).all())
