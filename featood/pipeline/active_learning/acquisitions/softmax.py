"""Images with the most uncertain softmax."""

from __future__ import annotations

__all__ = ["SoftmaxEntropy"]

from collections.abc import Sequence

import torch

from featood.cache import FeatureSet
from featood.numerics.mixtures import predictive_entropy
from featood.pipeline.active_learning.acquisition import Acquisition, Ranking, register


@register(
    "softmax",
    title="Softmax entropy",
    paper="Wang and Shang, A New Active Labeling Method for Deep Learning, IJCNN",
    year=2014,
    url="https://doi.org/10.1109/IJCNN.2014.6889457",
)
class SoftmaxEntropy(Acquisition):
    """Choose the images with the highest ``-sum_c p_c log p_c``, with p the softmax of one network."""

    def rank(
        self, labelled: Sequence[FeatureSet], pool: Sequence[FeatureSet], generator: torch.Generator
    ) -> Ranking:
        """Return the entropies ``[N]``."""
        return Ranking(predictive_entropy([torch.as_tensor(rows.logits) for rows in pool]))
