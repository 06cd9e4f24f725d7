"""Classifiers whose free energy is learned by sliced score matching."""

from __future__ import annotations

__all__ = ["SupervisedSlicedScoreMatching"]

from typing import ClassVar

from featood.energies import SupervisedScoreMatchingObjective
from featood.extractors.models.registry import register
from featood.extractors.models.ssm import SlicedScoreMatching


@register(
    "ssm-supervised",
    title="Classifier with sliced score matching",
    paper="Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI",
    year=2019,
    url="https://arxiv.org/abs/1905.07088",
    needs=("labels",),
)
class SupervisedSlicedScoreMatching(SupervisedScoreMatchingObjective, SlicedScoreMatching):
    """Learn a classifier by cross-entropy, and its free energy by sliced score matching."""

    data_noise: ClassVar[float] = 0.0  # type: ignore[misc]  # the images have noise already
