"""Neuron activation coverage: how often the state of each neuron occurs on the training rows."""

from __future__ import annotations

__all__ = ["NAC", "inner_edges"]

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import ROWS, FeatureSet
from featood.heads.base.distinct_columns import without_repeats
from featood.heads.base.fit import State, require_tensors
from featood.heads.base.head import Head
from featood.heads.base.last_layer import classifier_state, last_layer, linear_logits
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.options import option

BASE = 1000.0
"""Base of the logarithm that spaces the bins."""


@register(
    "nac",
    title="Neuron activation coverage (NAC-UE)",
    paper="Liu et al., Neuron Activation Coverage: Rethinking Out-of-Distribution Detection and Generalization, ICLR",
    year=2024,
    url="https://arxiv.org/abs/2306.02879",
    needs=("features", "classifier"),
)
class NAC(Head):
    """Score the negated mean over stages of the mean over neurons i of ``min(h_i(s_i) / (r N), 1)``.

    The state s_i is ``sigmoid(a z_i g_i / d)`` with the gradient g of ``KL(uniform || p)`` with respect to the
    activation z, and h_i(s_i) is the number of training rows in the same bin of neuron i; the bins are narrow around
    1/2, as in the authors' code. A bin is fully covered if it contains a share r of the N training rows: 50 of 1,000
    rows in the authors' code. For the classifier's input the gradient follows from the weights, ``W' (p - 1/K)``; the
    gradients of earlier stages are computed at extraction (``featood extract --tap layer2,layer3 --with nac``), among
    tokens for the class token, or for the patches where the logits do not depend on it. A stage with the states of the
    classifier's input counts once. Stages alone need no classifier (``--features layer2.nac``).

    The authors tune a, r and the bins for each stage and network on validation outliers, with a from 0.001 to 5,000,
    because the scale of z g differs between stages. Here d is the standard deviation of z g on the training rows of
    each stage, so that one a suits all; ``--scale 1`` uses a without scaling. Without tuning, early stages may carry so
    little information that they are better left out (``--features`` with the classifier's input alone). All training
    rows are counted instead of a balanced sample of 1,000. Higher means more out-of-distribution.
    """

    features: tuple[str, ...] = option(
        (), "feature columns to use (default: the classifier's input, and all that end in nac)"
    )
    bins: int = option(50, "number M of points that define the bin edges, which gives M - 2 bins", low=4)
    alpha: float = option(2.0, "steepness a of the sigmoid, in units of 1/d", low=1e-9)
    scale: float = option(0.0, "divisor d of z g (0: its standard deviation on the training rows)", low=0)
    full: float = option(
        0.05, "share r of the training rows at which a bin is fully covered", low=1e-9, high=1
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"full": 0.05},
        "cifar100": {"full": 0.05},
        "imagenet": {"full": 0.01},
    }

    @property
    def needs(self) -> tuple[str, ...]:
        """Features and, unless all that are named are those of stages, the classifier."""
        return ("features",) if self.features and all(map(_is_stage, self.features)) else self.card.needs

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns named in `features`, by default the classifier's input and all nac columns, each once."""
        names = list(self.features)
        if not names:
            names = [source.main, *(name for name in source.features if _is_stage(name))]
            if source.classifier is not None and len(names) > 1:
                # the classifier's input has no column of states: compute them for enough rows to compare columns
                some = source.select(*names).rows(slice(0, ROWS)).to_torch()
                layer = last_layer(some, source.main)
                states = {name: _states(some, name, layer) for name in names}
                names = without_repeats(self.name, dataclasses.replace(some, features=states), names)
        return names

    def fit_state(self, train: SelectedRows) -> State:
        """Compute the standard deviations in a first pass and the bin counts in a second."""
        names = list(train.source.features)
        plain = [name for name in names if not _is_stage(name)]
        state: State = {}
        for name in plain:  # each of these columns must match the classifier's input size
            state |= classifier_state(train, name)
        rows = 0
        sums = {name: torch.zeros(2, dtype=torch.float64, device=train.device) for name in names}
        for block in train.blocks():
            rows += len(block)
            for name in names:
                values = _states(block, name, state)
                sums[name] += torch.stack([values.mean(1).sum(), values.square().mean(1).sum()])
        for name in names:
            mean, square = sums[name] / rows
            deviation = (square - mean.square()).clamp(min=0).sqrt()
            scale = deviation.new_tensor(self.scale) if self.scale else deviation
            state[f"{name}/scale"] = torch.where(scale > 0, scale, 1.0)

        edges = self._edges(train.device)
        cells = len(edges) + 1
        counts = {
            name: torch.zeros(values.shape[1] * cells, dtype=torch.long, device=train.device)
            for name, values in train.source.features.items()
        }
        for block in train.blocks():
            for name in names:
                places = _places(_states(block, name, state), state[f"{name}/scale"], edges)
                counts[name] += torch.bincount(places.flatten(), minlength=len(counts[name]))
        for name in names:
            state[f"{name}/coverage"] = (counts[name].double() / (self.full * rows)).clamp(max=1)
        return state

    def prepare(self, state: State) -> Any:
        """Pair the tensors with the names of the stages and the edges of the bins."""
        names = [key.removesuffix("/coverage") for key in state if key.endswith("/coverage")]
        require_tensors(self.name, state, *(f"{name}/scale" for name in names or [""]))
        return state, names, self._edges(state[f"{names[0]}/coverage"].device)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated mean coverage ``[B]``, in [-1, 0]."""
        state, names, edges = fitted
        coverage = [
            state[f"{name}/coverage"][_places(_states(block, name, state), state[f"{name}/scale"], edges)]
            for name in names
        ]
        return -torch.stack([part.mean(1) for part in coverage]).mean(0)

    def _edges(self, device: torch.device) -> Tensor:
        """Return the inner bin edges in terms of ``z g / d``, i.e. before the scaling by a and the sigmoid."""
        return (inner_edges(self.bins).logit() / self.alpha).to(device)


def inner_edges(points: int) -> Tensor:
    """Edges between the bins of states in [0, 1] ``[2 (M // 2) - 3]``, M being the number of points.

    Half of them are ``log_1000`` of M // 2 evenly spaced numbers from 1 to the square root of 1,000, the others are
    their mirror images, so that bins are narrow around 1/2.
    """
    half = torch.linspace(1, math.sqrt(BASE), points // 2, dtype=torch.float64).log()[1:-1] / math.log(BASE)
    return torch.cat([half, half.new_tensor([0.5]), 1 - half.flip(0)])


def _is_stage(name: str) -> bool:
    return name.split(".")[-1] == "nac"


def _states(block: FeatureSet, name: str, layer: Mapping[str, Tensor]) -> Tensor:
    """Return ``z g`` of a stage ``[B, D]`` in float64; for the classifier's input, computed from the weights."""
    values: Tensor = block.feature(name)[:].double()
    if _is_stage(name):
        return values
    p = linear_logits(values, layer).softmax(1)
    return values * ((p - 1 / p.shape[1]) @ layer["weight"].double())


def _places(states: Tensor, scale: Tensor, edges: Tensor) -> Tensor:
    """Index of each neuron's bin in the flat table of its stage ``[B, D]``."""
    bins = torch.searchsorted(edges, states / scale, right=True)
    return bins + (len(edges) + 1) * torch.arange(states.shape[1], device=states.device)
