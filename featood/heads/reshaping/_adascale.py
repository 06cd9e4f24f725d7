"""Base class of AdaSCALE's heads: a ratio of activations whose percentile depends on how much the features shift."""

from __future__ import annotations

__all__ = ["AdaSCALE", "activation_ratios"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks
from featood.heads.reshaping._reshaping_head import ReshapingHead, top_mask
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class AdaSCALE(ReshapingHead):
    """Base of ``adascale-a`` and ``adascale-l``, which differ in what the ratio scales."""

    perturbed: str = option("adascale", "column with the features of the perturbed inputs")
    lowest: float = option(60.0, "percentile for the rows whose features shift most", low=0, high=99)
    highest: float = option(65.0, "percentile for the rows whose features shift least", low=0, high=99)
    shifted: float = option(0.01, "share of the largest activations whose shifts are added", low=0, high=1)
    kept: float = option(
        0.05, "share of the largest activations whose perturbed values are added", low=0, high=1
    )
    weight: float = option(10.0, "weight of the shifts", low=0)
    sample: int = option(5000, "most training rows for the distribution of the shift", low=1)
    seed: int = option(0, "seed of the choice of these rows", low=0, high=2**32 - 1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"lowest": 75.0, "highest": 85.0},
        "cifar100": {"lowest": 75.0, "highest": 85.0},
        "imagenet": {"lowest": 80.0, "highest": 85.0},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lowest > self.highest:
            raise UsageError(f"{self.name}: --lowest {self.lowest} is above --highest {self.highest}")

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the classifier's input, and that of the perturbed inputs."""
        return [*super().columns(source), self.perturbed]

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the classifier, and the sorted shifts of some training rows."""
        shifts = [self.shifts(block) for block in sampled_blocks(train, self.sample, self.seed)]
        return {"shifts": torch.cat(shifts).sort().values, **super().fit_state(train)}

    def shifts(self, block: FeatureSet) -> Tensor:
        """Return how much the largest activations of each row shift ``[B]``, plus the shifted activations."""
        plain = self.vectors(block)
        moved = block.feature(self.perturbed)[:].to(plain.dtype)
        kept, shifted = (
            top_mask(plain, max(int(share * plain.shape[1]), 1)) for share in (self.kept, self.shifted)
        )
        return (moved.relu() * kept).sum(1) + self.weight * ((plain - moved).abs() * shifted).sum(1)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score the scaled logits ``[B]``."""
        state, scorer = fitted
        features = self.vectors(block)
        below = torch.searchsorted(state["shifts"], self.shifts(block).contiguous(), right=True)
        share = below.double() / len(state["shifts"])
        percentiles = self.lowest + (1 - share) * (self.highest - self.lowest)
        size = features.shape[1]
        counts = (size - (size * percentiles / 100).round().long()).clamp(min=1)
        ratios = activation_ratios(features, counts)
        return scorer.score_logits(self.scaled(features, ratios, state), {})

    def scaled(self, features: Tensor, ratios: Tensor, fitted: State) -> Tensor:
        """Return the scaled logits ``[B, C]`` of features ``[B, D]`` with ratios ``[B, 1]``."""
        raise NotImplementedError


def activation_ratios(features: Tensor, counts: Tensor) -> Tensor:
    """Sum of each row's activations over that of its `counts` ``[B]`` largest ``[B, 1]``, at least 1.

    Only positive entries count as activations; a row without any has the ratio 1.
    """
    sums = features.relu().sort(dim=1, descending=True).values.cumsum(1)
    top = sums.gather(1, counts[:, None] - 1)
    return torch.where(top > 0, sums[:, -1:] / top.masked_fill(top == 0, 1), torch.ones_like(top))
