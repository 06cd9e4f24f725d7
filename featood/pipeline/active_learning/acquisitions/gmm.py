"""Images with the lowest density of the labelled images' features."""

from __future__ import annotations

__all__ = ["FeatureDensity"]

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from featood.cache import FeatureSet
from featood.heads import create_head, head_entry
from featood.options import option
from featood.pipeline.active_learning.acquisition import Acquisition, Ranking, register

_OF_HEAD = {entry.name: entry for entry in head_entry("gmm").options}


def _as_head(name: str) -> Any:
    entry = _OF_HEAD[name]
    return option(entry.default, entry.help, low=entry.low, high=entry.high, choices=entry.choices)


@register(
    "gmm",
    title="Gaussian mixture density (DDU)",
    paper="Mukhoti et al., Deep Deterministic Uncertainty: A New Simple Baseline, CVPR",
    year=2023,
    url="https://arxiv.org/abs/2102.11582",
)
class FeatureDensity(Acquisition):
    """Choose the images with the lowest density ``log sum_c pi_c N(z; mu_c, S_c)`` of the labelled images' features.

    The mixture is that of the head ``gmm``: one Gaussian for each class, weighted by the number of its labels, in
    float64. A few labels cannot determine covariances in many dimensions; then the ridge that makes them invertible
    decides the ranking. It is reported for each round, and ``ridge``, ``shrinkage`` and ``covariance`` are those of the
    head.
    """

    least: ClassVar[int] = 2

    covariance: str = _as_head("covariance")
    ridge: float = _as_head("ridge")
    shrinkage: str = _as_head("shrinkage")

    def rank(
        self, labelled: Sequence[FeatureSet], pool: Sequence[FeatureSet], generator: torch.Generator
    ) -> Ranking:
        """Return the negative log-densities ``[N]``, and the ridge that was used."""
        head = create_head("gmm", covariance=self.covariance, ridge=self.ridge, shrinkage=self.shrinkage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # few rows, and the ridge, which is returned
            head.fit(labelled[0])
            scores = head.score(pool[0])
        return Ranking(torch.as_tensor(scores), {"ridge": float(head.state["ridge"])})
