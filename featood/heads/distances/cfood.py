"""Size of the neighbourhoods of training rows that contain a row."""

from __future__ import annotations

__all__ = ["CFOOD", "grid", "neighbourhood_radii", "smallest_neighbourhood"]

import math
from functools import partial

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead, space_option
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks, stacked
from featood.heads.registry import register
from featood.numerics.gaussian import squared_distances
from featood.numerics.memory import by_chunks
from featood.options import option

PART = 128
"""Rows whose distances to all stored rows are computed at a time."""
TOLERANCE = 1e-9
"""Relative difference of equal squared distances: more than their rounding, which depends on the batch."""


@register(
    "cfood",
    title="Concentration-free density estimation (CF-OOD)",
    paper="Angiulli et al., CF-OOD: Concentration-Free Density Estimation for Reliable Out-of-Distribution Detection, "
    "SISAP",
    year=2025,
    url="https://doi.org/10.1007/978-3-032-06069-3_5",
    needs=("features",),
)
class CFOOD(FeatureHead):
    """Score the smallest share s such that z is among the ``s n`` nearest rows of at least ``k n`` of n training rows.

    The n rows are a random sample of the training rows, as in the code that the authors contributed to OpenOOD, which
    keeps a tenth of them (5,000 on CIFAR-10) and has the same k, normalisation and grid: shares are multiples of
    0.001 up to 0.1 and coarser above, so many rows have equal scores. Time and memory are proportional to the number
    of stored rows. Higher means more out-of-distribution.
    """

    k: float = option(0.01, "share k of the stored rows that have z in their neighbourhoods", low=0, high=1)
    rows: int = option(5000, "number of training rows to keep, drawn at random", low=2)
    seed: int = option(0, "seed of the draw", low=0, high=2**32 - 1)
    space: str = space_option("l2")

    def fit_state(self, train: SelectedRows) -> State:
        """Keep a sample of the rows, and the radii of their neighbourhoods for each share of the grid."""
        sample = (self.vectors(block).float() for block in sampled_blocks(train, self.rows, self.seed))
        kept = stacked(sample, min(self.rows, len(train.source)))
        if len(kept) < 2:
            raise DataError(f"cfood needs two training rows, {train.source.name} has {len(kept)}")
        shares, places = grid(len(kept))
        radii = by_chunks(partial(neighbourhood_radii, rows=kept, places=places.to(kept.device)), PART, kept)
        return {"rows": kept, "radii": radii, "shares": shares.to(kept.device)}

    def score_block(self, block: FeatureSet, fitted: State) -> Tensor:
        """Return the share ``[B]``."""
        rows = fitted["rows"].double()
        count = max(math.ceil(self.k * len(rows) - 1e-9), 1)  # the product of 0.07 and 100 is above 7

        def shares(part: Tensor) -> Tensor:
            distances = squared_distances(part.double(), rows)
            return smallest_neighbourhood(distances, fitted["radii"], fitted["shares"], count)

        return by_chunks(shares, PART, self.vectors(block).float())


def grid(count: int) -> tuple[Tensor, Tensor]:
    """Return shares ``[S]`` of `count` rows and, without repeats, the places of their last rows, from 0 ``[S]``."""
    shares = torch.cat(
        [
            torch.linspace(*ends, dtype=torch.float64)
            for ends in ((0.001, 0.1, 100), (0.105, 0.5, 81), (0.51, 0.99, 49))
        ]
    )
    places = (shares * count - 1).clamp(min=0).long()
    new = torch.cat([places.new_ones(1), places.diff()]) > 0
    return shares[new], places[new]


def neighbourhood_radii(part: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Squared distances ``[B, S]`` of rows ``[B, D]`` to their neighbours at places ``[S]`` among all ``[N, D]``."""
    distances = squared_distances(part.double(), rows.double()).sort(dim=1).values
    return distances[:, places + 1] * (1 + TOLERANCE)  # the nearest is the row itself


def smallest_neighbourhood(distances: Tensor, radii: Tensor, shares: Tensor, count: int) -> Tensor:
    """Smallest share ``[B]`` with which rows lie in the neighbourhoods of `count` stored rows or more, or else 1.

    Parameters
    ----------
    distances : Tensor
        ``[B, N]`` squared distances to the stored rows.
    radii : Tensor
        ``[N, S]`` squared radii of the neighbourhoods of the stored rows, ascending.
    shares : Tensor
        ``[S]`` shares of the stored rows in these neighbourhoods.
    count : int
        Number of stored rows whose neighbourhoods have to contain a row.
    """
    first = torch.searchsorted(radii, distances.T.contiguous())
    last = first.topk(count, dim=0, largest=False).values.amax(0)
    return torch.cat([shares, shares.new_ones(1)])[last]
