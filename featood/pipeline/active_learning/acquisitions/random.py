"""Images drawn at random: the baseline."""

from __future__ import annotations

__all__ = ["RandomDraw"]

from collections.abc import Sequence

import torch

from featood.cache import FeatureSet
from featood.pipeline.active_learning.acquisition import Acquisition, Ranking, register


@register(
    "random",
    title="Random images",
    paper="Settles, Active Learning Literature Survey, University of Wisconsin-Madison",
    year=2009,
    url="https://minds.wisconsin.edu/handle/1793/60660",
)
class RandomDraw(Acquisition):
    """Draw the images at random, each with the same probability."""

    def rank(
        self, labelled: Sequence[FeatureSet], pool: Sequence[FeatureSet], generator: torch.Generator
    ) -> Ranking:
        """Return random scores ``[N]``."""
        return Ranking(torch.rand(len(pool[0]), generator=generator, dtype=torch.float64))
