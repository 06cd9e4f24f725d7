"""Deviations of Gram-matrix row sums from their range in training for the predicted class."""

from __future__ import annotations

__all__ = ["Gram", "deviations"]

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.distinct_columns import without_repeats
from featood.heads.base.fit import State, require_tensors
from featood.heads.base.head import Head
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.options import option

TINY = 1e-6
"""Added to the bound that a deviation is divided by, as in the authors' code: the bound of a dead channel is 0."""


@register(
    "gram",
    title="Gram matrices",
    paper="Sastry and Oore, Detecting Out-of-Distribution Examples with Gram Matrices, ICML",
    year=2020,
    url="https://arxiv.org/abs/1912.12510",
    needs=("features", "logits"),
)
class Gram(Head):
    """Score how far Gram row sums lie outside the range of the training rows with the same predicted class.

    A deviation is measured relative to the bound it exceeds. The deviations of a layer are summed, divided by the
    predicted probability, and normalised by the mean of this quantity on training rows held out from the ranges. A
    class that is never predicted in training uses the range over all classes. The row sums are computed at extraction
    (``featood extract --tap layer1,layer2 --pool avg,std,gram``). Duplicate columns count once, unless `features`
    names both.

    The authors use the output of every convolution, and the mean deviation of a tenth of the test rows. The
    outputs of a network's stages carry less information: tap more modules to come closer to the paper. OpenOOD also
    uses the mean on held-out training rows, but by the true class and not divided by the probability, and powers up to
    5. Higher means more out-of-distribution.
    """

    features: tuple[str, ...] = option((), "feature columns to use (default: all that end in gram)")
    holdout: float = option(
        0.1, "share of the training rows held out to estimate the expected deviation", low=0, high=0.9
    )
    seed: int = option(0, "seed of the random choice of held-out rows", low=0, high=2**32 - 1)

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns named in `features`, by default all Gram sums.

        Raises
        ------
        UsageError
            If the set has none.
        """
        if self.features:
            return list(self.features)
        names = [name for name in source.features if name.split(".")[-1] == "gram"]
        if not names:
            raise UsageError(
                f"{self.name}: {source.name} has no column of Gram sums; extract it with --pool avg,std,gram"
            )
        made = source.recipe.get("columns", {})
        if earlier := [name for name in names if "gram" in made.get(name, ())]:
            warnings.warn(
                f"{self.name}: {', '.join(earlier)} have powers 1 to 5, from an earlier version, instead of 1 to 10; "
                "extract again with --overwrite",
                stacklevel=2,
            )
        return without_repeats(self.name, source, names)

    def fit_state(self, train: SelectedRows) -> State:
        """Compute the ranges in a first pass and the expected deviations in a second."""
        layers = {
            name: (train.num_classes, values.shape[1]) for name, values in train.source.features.items()
        }
        lower = {
            name: torch.full(shape, torch.inf, dtype=torch.float64, device=train.device)
            for name, shape in layers.items()
        }
        upper = {name: -bound for name, bound in lower.items()}
        for block, held_out in self._split(train):
            predicted = _predictions(block)[0][~held_out]
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
            predicted, probability = (part[held_out] for part in _predictions(block))
            for name in layers:
                values = block.feature(name)[held_out].double()
                outside = deviations(values, lower[name][predicted], upper[name][predicted])
                sums[name] += float((outside / probability).sum())
        state = {f"{name}/lower": bound for name, bound in lower.items()}
        state |= {f"{name}/upper": bound for name, bound in upper.items()}
        for name, total in sums.items():
            expected = total / rows if total > 0 else 1.0
            state[f"{name}/mean"] = torch.tensor(expected, dtype=torch.float64, device=train.device)
        return state

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the sum over the layers of deviation over expected deviation ``[B]``."""
        predicted, probability = _predictions(block)
        total = torch.zeros_like(probability)
        for name in _layers(fitted):
            lower, upper, expected = (fitted[f"{name}/{part}"] for part in ("lower", "upper", "mean"))
            values = block.feature(name)[:].double()
            total += deviations(values, lower[predicted], upper[predicted]) / expected
        return total / probability

    def prepare(self, state: State) -> Any:
        """Return the tensors unchanged."""
        require_tensors(self.name, state, *(f"{name}/mean" for name in _layers(state)))
        return state

    def _split(self, train: SelectedRows) -> Iterator[tuple[FeatureSet, Tensor]]:
        """Iterate over blocks with the mask ``[B]`` of held-out rows, drawn by the rows' position in the set."""
        rng = np.random.default_rng(self.seed)
        first = True
        for block in train.blocks():
            held_out = torch.from_numpy(rng.random(len(block)) < self.holdout)
            if first:  # so that the range is not empty, however few rows there are
                held_out[0] = first = False
            yield block, held_out.to(train.device)


def _predictions(block: FeatureSet) -> tuple[Tensor, Tensor]:
    """Return the predicted classes ``[B]`` and their probabilities ``[B]``."""
    assert block.logits is not None
    probability, predicted = block.logits[:].double().softmax(1).max(1)
    return predicted, probability


def _layers(state: State) -> list[str]:
    return [key.removesuffix("/lower") for key in state if key.endswith("/lower")]


def deviations(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Sum of the relative deviations of values ``[B, D]`` from their bounds ``[B, D]``, returned as ``[B]``."""
    below = (lower - values).relu() / (lower.abs() + TINY)
    above = (values - upper).relu() / (upper.abs() + TINY)
    return (below + above).sum(1)
