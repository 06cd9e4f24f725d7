"""Images on which an ensemble is most uncertain."""

from __future__ import annotations

__all__ = ["Ensemble"]

from collections.abc import Sequence

import torch

from featood.cache import FeatureSet
from featood.numerics.mixtures import mutual_information, predictive_entropy
from featood.options import option
from featood.pipeline.active_learning.acquisition import Acquisition, Ranking, register


@register(
    "ensemble",
    title="Uncertainty of an ensemble",
    paper="Beluch et al., The Power of Ensembles for Active Learning in Image Classification, CVPR",
    year=2018,
    url="https://openaccess.thecvf.com/content_cvpr_2018/html/Beluch_The_Power_of_CVPR_2018_paper.html",
)
class Ensemble(Acquisition):
    """Choose the images with the highest entropy of the members' mean probabilities.

    With ``mutual_information``, choose those with the highest difference between this entropy and the mean of the
    members' entropies: the members contradict each other, rather than all being uncertain. The ensemble classifies by
    the mean probabilities.
    """

    members: int = option(5, "networks of the ensemble", low=2)
    mutual_information: bool = option(False, "rank by mutual information in place of the predictive entropy")

    @property
    def networks(self) -> int:
        """Number of members."""
        return self.members

    def rank(
        self, labelled: Sequence[FeatureSet], pool: Sequence[FeatureSet], generator: torch.Generator
    ) -> Ranking:
        """Return the entropies or the mutual information ``[N]``."""
        measure = mutual_information if self.mutual_information else predictive_entropy
        return Ranking(measure([torch.as_tensor(rows.logits) for rows in pool]))
