"""Tests of whether the features of two sets of rows have the same distribution."""

from __future__ import annotations

__all__ = ["changed_features", "mmd"]

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from featood.decisions.batches import discoveries


class Discrepancy(NamedTuple):
    """How much two sets of rows differ."""

    value: float
    """Unbiased estimate of the squared maximum mean discrepancy; about 0, or negative, without a difference."""
    p_value: float
    """Share of random divisions of the rows with a value at least as large."""


def changed_features(
    reference: Float[np.ndarray, "N D"], rows: Float[np.ndarray, "M D"], false_share: float = 0.05
) -> Bool[np.ndarray, "D"]:
    """Return which features differ between two sets of rows, by a test of Kolmogorov and Smirnov for each.

    Parameters
    ----------
    reference, rows : array of shape [N, D], [M, D]
        Features.
    false_share : float
        Expected share of features that do not differ among those returned; see :func:`~featood.decisions.discoveries`.
    """
    found = scipy.stats.ks_2samp(reference, rows, axis=0, method="asymp")
    return discoveries(found.pvalue, false_share)


def mmd(
    reference: Float[np.ndarray, "N D"],
    rows: Float[np.ndarray, "M D"],
    generator: np.random.Generator,
    permutations: int = 199,
) -> Discrepancy:
    """Return the maximum mean discrepancy between two sets of rows, with a p-value.

    The kernel is Gaussian, and its width the median distance between two of all rows.

    Parameters
    ----------
    reference, rows : array of shape [N, D], [M, D]
        Features, at least two rows each.
    generator : numpy Generator
        Divides the rows at random.
    permutations : int
        Number of random divisions; the smallest p-value is ``1 / (permutations + 1)``.

    References
    ----------
    Gretton et al., A Kernel Two-Sample Test, JMLR 2012.
    """
    n, m = len(reference), len(rows)
    kernel = _kernel(np.concatenate([reference, rows]).astype(np.float64))
    first = np.zeros((n + m, 1 + permutations))
    first[:n, 0] = 1
    for number in range(1, 1 + permutations):
        first[generator.permutation(n + m)[:n], number] = 1
    both = kernel @ first
    within, sums = (first * both).sum(0), both.sum(0)
    across, others = sums - within, kernel.sum() - 2 * sums + within
    values = within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * across / (n * m)
    return Discrepancy(float(values[0]), float((values[1:] >= values[0]).sum() + 1) / (permutations + 1))


def _kernel(rows: np.ndarray) -> np.ndarray:
    """Return the kernel ``[N, N]`` of all pairs of rows, with zeros on the diagonal."""
    import torch

    from featood.numerics.gaussian import squared_distances

    distances = squared_distances(torch.from_numpy(rows), torch.from_numpy(rows)).numpy()
    width = float(np.median(distances[np.tri(len(rows), k=-1, dtype=bool)])) or 1.0
    kernel = np.exp(-distances / (2 * width))
    np.fill_diagonal(kernel, 0)
    return kernel
