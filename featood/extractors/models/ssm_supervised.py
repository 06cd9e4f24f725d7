"""Classifiers whose free energy is learned by sliced score matching."""

from __future__ import annotations

__all__ = ["SupervisedSlicedScoreMatching"]

from typing import ClassVar

from featood.energies import SupervisedScoreMatchingObjective
from featood.extractors.models.registry import register
from featood.extractors.models.ssm import SlicedScoreMatching
from featood.options import option


@register(
    "ssm-supervised",
    title="Classifier with sliced score matching",
    paper="Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI",
    year=2019,
    url="https://arxiv.org/abs/1905.07088",
    needs=("labels",),
)
class SupervisedSlicedScoreMatching(SupervisedScoreMatchingObjective, SlicedScoreMatching):
    """Learn a classifier by cross-entropy, and its free energy by sliced score matching.

    The loss of score matching is a sum over the pixels and reaches tens of thousands, so the cross-entropy has a large
    weight; with a weight of 1, the accuracy of a small network stayed at chance.
    """

    classification: float = option(1000.0, "weight of the cross-entropy in the loss", low=0)
    data_noise: ClassVar[float] = 0.0  # type: ignore[misc]  # the images have noise already
