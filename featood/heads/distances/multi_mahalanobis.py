"""Weighted sum of Mahalanobis distances in several layers."""

from __future__ import annotations

__all__ = ["MultiMahalanobis"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.distinct_columns import without_repeats
from featood.heads.base.fit import State
from featood.heads.base.gaussian_head import GaussianHead
from featood.heads.base.rows import SelectedRows
from featood.heads.distances.mahalanobis import Mahalanobis
from featood.heads.registry import register
from featood.numerics.moments import ScatterByClass
from featood.options import option


@register(
    "multi-mahalanobis",
    title="Mahalanobis distance over several layers",
    paper="Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1807.03888",
    needs=("features", "labels"),
)
class MultiMahalanobis(GaussianHead):
    """Score ``sum_l a_l min_c d_c,l(z_l)`` over feature columns l, each with class means and a tied covariance.

    The paper learns the weights a_l by logistic regression on outliers (rows with a negative label); use ``learned``
    for this. Without outliers, ``variance`` divides each layer's distance by its standard deviation on the
    training rows, so that no layer dominates because of its scale; ``equal`` sums them unweighted. Duplicate columns
    (the average of the last stage is the classifier's input) count once, unless `features` names both. Higher means
    more out-of-distribution.
    """

    features: tuple[str, ...] = option(
        (), "feature columns to use (default: the classifier's input and every avg column)"
    )
    weights: str = option("variance", "how the layers are weighted", choices=("variance", "equal", "learned"))

    @property
    def needs(self) -> tuple[str, ...]:
        """Features, labels and, if the weights are learned, outliers."""
        return (*self.card.needs, "outliers") if self.weights == "learned" else self.card.needs

    def fit_state(self, train: SelectedRows) -> State:
        """Fit every layer, and compute the weights from its distances in a further pass."""
        layers = {name: self._layer(name) for name in train.source.features}
        states = {name: layer.fit_state(train) for name, layer in layers.items()}
        weights = torch.ones(len(layers), dtype=torch.float64)
        if self.weights != "equal":
            fitted = [(layer, layer.prepare(states[name])) for name, layer in layers.items()]
            spread, kept = None, []
            for block in train.blocks():
                parts = torch.stack([layer.score_block(block, state) for layer, state in fitted], 1)
                parts, outlier = parts.double().cpu(), torch.as_tensor(block.labels).cpu() < 0
                spread = ScatterByClass.of(parts, -outlier.long(), spread, diagonal=True)
                if self.weights == "learned":
                    kept.append((parts, outlier))
            assert spread is not None
            weights = self._weigh(spread, kept)
        for state, weight in zip(states.values(), weights, strict=True):
            state["weight"] = weight.clone()
        return {f"{name}/{key}": tensor for name, state in states.items() for key, tensor in state.items()}

    def _weigh(self, spread: ScatterByClass, kept: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Weights ``[L]`` from the spread of known rows, and blocks of distances ``[B, L]`` and outliers ``[B]``."""
        deviation = spread.covariances()[0].sqrt()
        scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        if self.weights == "variance":
            return 1 / scale
        distances, outlier = (torch.cat(part) for part in zip(*kept, strict=True))
        if not bool(outlier.any()):
            raise DataError(f"{self.name} learns its weights from outliers; add --outliers SET")
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        model.fit((distances / scale).numpy(), outlier.numpy())
        return torch.from_numpy(model.coef_[0]) / scale

    def prepare(self, state: State) -> Any:
        """Rebuild each layer."""
        parts: dict[str, State] = {}
        for key in sorted(state):
            name, part = key.rsplit("/", 1)
            parts.setdefault(name, {})[part] = state[key]
        layers = [(part, self._layer(name)) for name, part in parts.items()]
        return [(float(part["weight"]), layer, layer.prepare(part)) for part, layer in layers]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the weighted sum of the layers' squared distances ``[B]``."""
        parts = [weight * layer.score_block(block, state).double() for weight, layer, state in fitted]
        return torch.stack(parts).sum(0)

    def _layer(self, name: str) -> Mahalanobis:
        return Mahalanobis(feature=name, ridge=self.ridge, shrinkage=self.shrinkage, dead=self.dead)

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns named in `features`, by default the classifier's input and all avg columns, each once."""
        if self.features:
            return list(self.features)
        averages = [name for name in source.features if name.split(".")[-1] == "avg" and name != source.main]
        return without_repeats(self.name, source, [*averages, source.main])
