"""Sliced score matching of a classifier's free energy."""

from __future__ import annotations

__all__ = ["SupervisedSlicedScoreMatching"]

from featood.energies import SupervisedScoreMatchingObjective
from featood.heads.energies.ssm import SlicedScoreMatching
from featood.heads.registry import register


@register(
    "ssm-supervised",
    title="Classifier with sliced score matching",
    paper="Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI",
    year=2019,
    url="https://arxiv.org/abs/1905.07088",
    needs=("features", "labels"),
)
class SupervisedSlicedScoreMatching(SupervisedScoreMatchingObjective, SlicedScoreMatching):
    """Score the free energy of a classifier trained by cross-entropy and sliced score matching."""
