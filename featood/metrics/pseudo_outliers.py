"""Pseudo-outliers: rows made from in-distribution rows, which a good score ranks above them."""

from __future__ import annotations

__all__ = ["crossed", "mixed", "other_rows"]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.errors import DataError


def other_rows(classes: Int[Tensor, "N"], generator: torch.Generator) -> Int[Tensor, "N"]:
    """Return for each row the number of a random row of another class, uniformly among all of them.

    Parameters
    ----------
    classes : Tensor
        ``[N]``.
    generator : torch.Generator
        Generator of the draws.

    Raises
    ------
    DataError
        If all rows have the same class.
    """
    _, ranks, sizes = classes.unique(return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError("rows of two classes are needed, and all have the same")
    starts = sizes.cumsum(0) - sizes
    others = len(classes) - sizes[ranks]
    drawn = (torch.rand(len(classes), generator=generator, dtype=torch.float64) * others).long()
    # numbers in the order of the classes, without the block of the own class
    skipped = drawn + sizes[ranks] * (drawn >= starts[ranks])
    return ranks.argsort(stable=True)[skipped]


def mixed(
    rows: Float[Tensor, "N D"], partners: Int[Tensor, "N"], weights: Float[Tensor, "N"]
) -> Float[Tensor, "N D"]:
    """Return ``(1 - w) z + w z'`` of each row z and its partner z': rows between the classes.

    Parameters
    ----------
    rows : Tensor
        ``[N, D]``.
    partners : Tensor
        ``[N]``, such as :func:`other_rows` returns them.
    weights : Tensor
        ``[N]`` in [0, 1].

    References
    ----------
    Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, ICML 2019; as outliers:
    Zhou et al., Learning Placeholders for Open-Set Recognition, CVPR 2021.
    """
    return torch.lerp(rows, rows[partners], weights[:, None].to(rows))


def crossed(
    rows: Float[Tensor, "N D"], partners: Int[Tensor, "N"], generator: torch.Generator
) -> Float[Tensor, "N D"]:
    """Return rows of which each feature is that of the row or of its partner, at random.

    Features keep their range and their share of zeros, and lose their dependence: the rows lie between the classes
    like those of :func:`mixed`, and far from all rows in directions of small variance.

    Parameters
    ----------
    rows, partners
        See :func:`mixed`.
    generator : torch.Generator
        Generator of the draws.
    """
    return torch.where(torch.rand(rows.shape, generator=generator) < 0.5, rows[partners], rows)
