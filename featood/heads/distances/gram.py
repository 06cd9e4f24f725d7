"""Deviations of Gram-matrix row sums from the range that the predicted class showed in training."""

from __future__ import annotations

__all__ = ["Gram", "deviations"]

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base import Head, State
from featood.heads.registry import option, register
from featood.heads.rows import SelectedRows

TINY = 1e-6
"""Added to the bound that a deviation is divided by, as in the authors' code: a channel may have been silent."""


@register(
    "gram",
    title="Gram matrices",
    paper="Sastry and Oore, Detecting Out-of-Distribution Examples with Gram Matrices, ICML",
    year=2020,
    url="https://arxiv.org/abs/1912.12510",
    needs=("features", "logits"),
)
class Gram(Head):
    """Score how far Gram row sums leave the range of the training rows with the same predicted class.

    A deviation is relative to the bound it crosses; those of a layer are added up and divided by their mean on
    training rows that are held out from the ranges. A class that is never predicted in training has the range of
    all classes together. The sums are made at extraction (``featood extract --tap layer1,layer2 --pool
    avg,std,gram``).
    """

    features: tuple[str, ...] = option((), "feature columns to use (default: all that end in gram)")
    holdout: float = option(
        0.1, "share of the training rows that measure the expected deviation", low=0, high=0.9
    )
    seed: int = option(0, "seed of their choice", low=0, high=2**32 - 1)

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns asked for, else all Gram sums.

        Raises
        ------
        UsageError
            When the set has none.
        """
        names = list(self.features) or [name for name in source.features if name.split(".")[-1] == "gram"]
        if not names:
            raise UsageError(
                f"{self.name}: {source.name} has no column of Gram sums; extract it with --pool avg,std,gram"
            )
        return names

    def fit_state(self, train: SelectedRows) -> State:
        """Find the ranges in one pass, and the expected deviations in a second."""
        layers = {
            name: (train.num_classes, values.shape[1]) for name, values in train.source.features.items()
        }
        lower = {
            name: torch.full(shape, torch.inf, dtype=torch.float64, device=train.device)
            for name, shape in layers.items()
        }
        upper = {name: -bound for name, bound in lower.items()}
        for block, held_out in self._split(train):
            predicted = _predictions(block)[~held_out]
            for name in layers:
                values = block.feature(name)[~held_out].double()
                index = predicted[:, None].expand_as(values)
                lower[name].scatter_reduce_(0, index, values, "amin")
                upper[name].scatter_reduce_(0, index, values, "amax")
        for name in layers:
            unseen = lower[name].isinf()
            lower[name] = torch.where(unseen, lower[name].amin(0), lower[name])
            upper[name] = torch.where(unseen, upper[name].amax(0), upper[name])

        rows, sums = 0, dict.fromkeys(layers, 0.0)
        for block, held_out in self._split(train):
            rows += int(held_out.sum())
            predicted = _predictions(block)[held_out]
            for name in layers:
                values = block.feature(name)[held_out].double()
                sums[name] += float(deviations(values, lower[name][predicted], upper[name][predicted]).sum())
        state = {f"{name}/lower": bound for name, bound in lower.items()}
        state |= {f"{name}/upper": bound for name, bound in upper.items()}
        for name, total in sums.items():
            expected = total / rows if total > 0 else 1.0
            state[f"{name}/expected"] = torch.tensor(expected, dtype=torch.float64, device=train.device)
        return state

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the sum over the layers of deviation over expected deviation ``[B]``."""
        predicted = _predictions(block)
        total = torch.zeros(len(block), dtype=torch.float64, device=predicted.device)
        for name in [key.removesuffix("/expected") for key in fitted if key.endswith("/expected")]:
            lower, upper, expected = (fitted[f"{name}/{part}"] for part in ("lower", "upper", "expected"))
            values = block.feature(name)[:].double()
            total += deviations(values, lower[predicted], upper[predicted]) / expected
        return total

    def _split(self, train: SelectedRows) -> Iterator[tuple[FeatureSet, Tensor]]:
        """Iterate over blocks with the mask ``[B]`` of held-out rows, drawn by their place among all rows."""
        rng = np.random.default_rng(self.seed)
        first = True
        for block in train.blocks():
            held_out = torch.from_numpy(rng.random(len(block)) < self.holdout)
            if first:  # so that there is a range, however few the rows
                held_out[0] = first = False
            yield block, held_out.to(train.device)


def _predictions(block: FeatureSet) -> Tensor:
    assert block.logits is not None
    return block.logits[:].argmax(1)


def deviations(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Sum over a row's values ``[B, D]`` of what lies beyond its bounds ``[B, D]``, relative to them: ``[B]``."""
    below = (lower - values).relu() / (lower.abs() + TINY)
    above = (values - upper).relu() / (upper.abs() + TINY)
    return (below + above).sum(1)
