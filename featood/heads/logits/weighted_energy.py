"""Free energy with class weights learned from outliers."""

from __future__ import annotations

__all__ = ["WeightedEnergy"]

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from featood.errors import DataError
from featood.heads.base.fit import State
from featood.heads.base.logit_head import LogitHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.losses import weighted_energy
from featood.numerics.moments import ScatterByClass
from featood.options import option

PENALTY = 1e-3
"""Penalty on the squared log-weights: keeps them finite where a few weights separate the outliers entirely."""


@register(
    "weighted-energy",
    title="Weighted free energy",
    paper="Du et al., VOS: Learning What You Don't Know by Virtual Outlier Synthesis, ICLR",
    year=2022,
    url="https://arxiv.org/abs/2202.01197",
    needs=("logits", "labels", "outliers"),
)
class WeightedEnergy(LogitHead):
    """Score ``-log sum_c w_c exp(l_c)`` with weights for which the energy best separates the outliers.

    The weights and a logistic regression on the energy are fitted jointly by L-BFGS to the labels "outlier"
    (negative) and "known", with equal total weight for both groups. The paper learns them together with the network,
    on outliers sampled in feature space; here the logits are fixed, and the training rows must include outliers.
    """

    steps: int = option(100, "maximum number of L-BFGS steps; each reads the rows at least once", low=1)

    def fit_state(self, train: SelectedRows) -> State:
        """Fit the log-weights by logistic regression on the energy."""
        energies, outliers = None, 0
        for block in train.blocks():
            assert block.logits is not None and block.labels is not None
            energy = -block.logits[:].double().logsumexp(1, keepdim=True)
            energies = ScatterByClass.of(
                energy, block.labels[:].new_zeros(len(block)), energies, diagonal=True
            )
            outliers += int((block.labels[:] < 0).sum())
        assert energies is not None
        known = int(energies.rows) - outliers
        if not known or not outliers:
            which = "known rows" if not known else "outliers (rows with a negative label)"
            raise DataError(
                f"weighted-energy learns from outliers; {train.source.name} has no {which}; name some with --outliers"
            )
        center = energies.mean()
        scale = energies.covariances(unbiased=True)[0].sqrt().clamp(min=1e-12)
        share = center.new_tensor([known, outliers]).reciprocal() / 2

        log_weights = center.new_zeros(train.num_classes, requires_grad=True)
        curve = center.new_zeros(2, requires_grad=True)  # log slope and offset of the logistic curve
        optimizer = torch.optim.LBFGS(
            [log_weights, curve], max_iter=self.steps, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            optimizer.zero_grad()
            loss = PENALTY * (log_weights.square().sum() + curve.square().sum())
            loss.backward()
            total = float(loss.detach())
            for block in train.blocks():
                out = block.labels[:] < 0  # type: ignore[index]
                z = (weighted_energy(block.logits[:].double(), log_weights) - center) / scale  # type: ignore[index]
                odds = curve[0].exp() * (z - curve[1])
                loss = (share[out.long()] * softplus(torch.where(out, -odds, odds))).sum()
                loss.backward()
                total += float(loss.detach())
            return total

        optimizer.step(closure)
        return {"log_weights": log_weights.detach()}

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Return the weighted energy ``[B]``."""
        return weighted_energy(logits.double(), fitted["log_weights"])
