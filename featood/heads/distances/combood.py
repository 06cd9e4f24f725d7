"""Distance to the k-th nearest row combined with the Mahalanobis distance of extreme values."""

from __future__ import annotations

__all__ = ["CombOOD", "extremes", "yeo_johnson"]

import math
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.distinct_columns import without_repeats
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import stacked
from featood.heads.registry import register
from featood.numerics.banks import Bank
from featood.numerics.neighbours import build_index, search
from featood.numerics.spaces import unit
from featood.options import option

POOLED = ("avg", "max")
"""Last parts of the names of columns that are read by default."""


@register(
    "combood",
    title="Nearest neighbours and extreme values (CombOOD)",
    paper="Rajasekaran et al., COMBOOD: A Semiparametric Approach for Detecting Out-of-distribution Data for Image "
    "Classification, SDM",
    year=2024,
    url="https://doi.org/10.1137/1.9781611978032.74",
    needs=("features", "logits"),
)
class CombOOD(RawFeatures, FeatureHead):
    """Score ``sqrt(D) log d^2 + m^2``: d is the distance of unit rows to the k-th nearest training row.

    m is the Mahalanobis distance of the smallest and the largest entry of each column and of the logits, which are
    standardised and made Gaussian by a Yeo-Johnson transformation fitted to the training rows; the identity is added to
    their covariance. D is the number of features.

    The authors take the extremes over the input of every activation function of the network. Columns of the cache are
    poolings of some layers (``featood extract --tap layer2,layer3 --pool max``), so m differs from theirs. Higher means
    more out-of-distribution.
    """

    features: tuple[str, ...] = option(
        (), "columns of the extremes (default: the classifier's input and every avg or max column)"
    )
    k: int = option(50, "number k of the nearest neighbours; all rows if there are fewer", low=1)

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the column of the distances, and those of the extremes, each once."""
        main = self.feature or source.main
        names = list(self.features) or [
            name for name in source.features if name == source.main or name.split(".")[-1] in POOLED
        ]
        return [main, *(name for name in without_repeats(self.name, source, names) if name != main)]

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the rows, and fit the transformation and the covariance of their extremes."""
        rows, found = [], []
        for block in train.blocks():
            rows.append(block.feature(self.feature)[:])
            found.append(extremes(block))
        return {"rows": stacked(rows, len(train.source)), **_gaussian(torch.cat(found))}

    def prepare(self, state: State) -> Any:
        """Build the index of the unit rows."""
        return state, build_index(Bank(state["rows"], lambda rows, _: unit(rows.float())))

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the combined distance ``[B]``."""
        state, index = fitted
        rows = unit(self.vectors(block).float())
        distances = search(index, rows, min(self.k, len(index.rows))).values[:, -1]
        tiny = torch.finfo(torch.float64).tiny
        logarithm = 2 * distances.clamp(min=tiny).log()
        return math.sqrt(rows.shape[1]) * logarithm + _squared_mahalanobis(extremes(block), state)


def extremes(block: FeatureSet) -> Tensor:
    """Return the smallest and the largest entry of each column and of the logits ``[B, E]``, in float64."""
    assert block.logits is not None
    parts = [values[:].double().aminmax(dim=1) for values in (*block.features.values(), block.logits)]
    return torch.stack([value for part in parts for value in part], 1)


def yeo_johnson(values: Tensor, powers: Tensor) -> Tensor:
    """Transform values ``[B, E]`` with powers p ``[E]``.

    The result is ``((1 + x)^p - 1) / p`` for x >= 0, and the mirror image of this function with power 2 - p for x < 0.
    """
    powers = torch.where(values < 0, 2 - powers, powers)
    logarithm = values.abs().log1p()
    raised = torch.where(powers == 0, logarithm, torch.expm1(powers * logarithm) / powers)
    return raised * values.sign()


def _gaussian(values: Tensor) -> State:
    """Fit the transformation of values ``[N, E]``, and the inverse root of their covariance plus the identity."""
    from sklearn.preprocessing import PowerTransformer, StandardScaler

    first = StandardScaler().fit(values.cpu().numpy())
    power = PowerTransformer(standardize=False).fit(first.transform(values.cpu().numpy()))
    state = {"center": first.mean_, "scale": first.scale_, "powers": power.lambdas_}
    state = {name: torch.as_tensor(part).to(values) for name, part in state.items()}
    raised = _raised(values, state)
    state["shift"] = raised.mean(0)
    deviation = raised.std(0, correction=0)
    state["spread"] = torch.where(deviation > 0, deviation, 1)
    standard = (raised - state["shift"]) / state["spread"]
    identity = torch.eye(standard.shape[1]).to(values)
    factor = torch.linalg.cholesky(standard.T @ standard / max(len(standard) - 1, 1) + identity)
    return {**state, "inverse": torch.linalg.solve_triangular(factor, identity, upper=False).mT}


def _raised(values: Tensor, state: State) -> Tensor:
    return yeo_johnson((values - state["center"]) / state["scale"], state["powers"])


def _squared_mahalanobis(values: Tensor, state: State) -> Tensor:
    """Return the squared length ``[B]`` of transformed and whitened values ``[B, E]``."""
    standard = (_raised(values, state) - state["shift"]) / state["spread"]
    return (standard @ state["inverse"]).square().sum(1)
