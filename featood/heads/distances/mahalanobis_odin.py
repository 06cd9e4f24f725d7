"""Mahalanobis distance of inputs moved towards the nearest class mean."""

from __future__ import annotations

__all__ = ["MahalanobisODIN"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import RawFeatures
from featood.heads.distances.mahalanobis import CHUNK, Mahalanobis
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.options import option


@register(
    "mahalanobis-odin",
    title="Mahalanobis distance of perturbed inputs",
    paper="Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1807.03888",
    needs=("features", "labels"),
)
class MahalanobisODIN(RawFeatures, Mahalanobis):
    """Score the Mahalanobis distance of features of inputs perturbed at extraction (``featood extract --gaussian``).

    The perturbation moves the image one small step towards the nearest mean of an earlier fit of ``mahalanobis``, which
    decreases the distance of in-distribution images more. The head is fitted to the features of unperturbed rows: give
    it the training rows of that fit, so that both have the same Gaussians. The authors choose the step on validation
    outliers, and add the distances of several layers with weights that they fit to outliers; here one layer is used.
    Higher means more out-of-distribution.
    """

    perturbed: str = option("mahalanobis-odin", "column with the features of the perturbed inputs")

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the column of the fit, and that of the perturbed inputs."""
        return [*super().columns(source), self.perturbed]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block by the features of its perturbed inputs."""
        rows: Tensor = block.feature(self.perturbed)[:]
        return by_chunks(lambda part: self.score_rows(part.double(), fitted), CHUNK, rows)
