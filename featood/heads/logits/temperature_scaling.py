"""Maximum softmax probability at the temperature that fits the labels."""

from __future__ import annotations

__all__ = ["TemperatureScaling"]

import math
import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from featood.heads.base.fit import State
from featood.heads.base.logit_head import LogitHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.softmax import log_odds

COLDEST, HOTTEST = 1e-2, 1e3
STEPS = 60


@register(
    "temperature-scaling",
    title="Temperature scaling",
    paper="Guo et al., On Calibration of Modern Neural Networks, ICML",
    year=2017,
    url="https://arxiv.org/abs/1706.04599",
    needs=("logits", "labels"),
)
class TemperatureScaling(LogitHead):
    """Score ``log(1 - max softmax(logits / T))`` with the T in [0.01, 1000] that minimises the NLL of the labels.

    The logarithm gives the same ranking as ``-max softmax`` and still separates rows whose softmax rounds to one.

    The negative log-likelihood is convex in 1/T, so Newton's method within a bracket finds its only minimum, with one
    pass over the rows per step. Fit it on held-out rows: on the classifier's own training rows the estimated T is too
    low, and if all rows are classified correctly there is no minimum.
    """

    least_classes: ClassVar[int] = 2

    def fit_state(self, train: SelectedRows) -> State:
        """Find the temperature."""
        beta = _inverse_temperature(train)
        if beta in (1 / HOTTEST, 1 / COLDEST):
            warnings.warn(
                f"temperature-scaling: no T from {COLDEST} to {HOTTEST:g} fits best; fit it on held-out rows",
                stacklevel=2,
            )
        return {"temperature": torch.tensor(1 / beta, dtype=torch.float64)}

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the logarithm of one minus the largest probability ``[B]``."""
        return logsigmoid(log_odds(logits, fitted["temperature"]))


def _inverse_temperature(train: SelectedRows) -> float:
    low, high = 1 / HOTTEST, 1 / COLDEST
    if _derivatives(train, high)[0] <= 0:
        return high
    if _derivatives(train, low)[0] >= 0:
        return low
    beta = 1.0
    for _ in range(STEPS):
        slope, curvature = _derivatives(train, beta)
        low, high = (low, beta) if slope > 0 else (beta, high)
        newton = beta - slope / curvature if curvature > 0 else math.nan
        step = newton if low < newton < high else math.sqrt(low * high)
        if abs(step / beta - 1) < 1e-9:
            break
        beta = step
    return beta


def _derivatives(train: SelectedRows, beta: float) -> tuple[float, float]:
    """First and second derivative of the mean NLL by the inverse temperature."""
    slope = curvature = 0.0
    rows = 0
    for block in train.blocks():
        assert block.logits is not None and block.labels is not None
        logits = block.logits[:].double()
        logits = logits - logits.gather(1, block.labels[:, None])
        p = (beta * logits).softmax(1)
        mean = (p * logits).sum(1)
        slope += float(mean.sum())
        curvature += float((p * (logits - mean[:, None]).square()).sum())
        rows += len(logits)
    return slope / rows, curvature / rows
