"""ODIN: the tempered softmax of a perturbed input."""

from __future__ import annotations

__all__ = ["ODIN"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option


@register(
    "odin",
    title="ODIN",
    paper="Liang et al., Enhancing the Reliability of Out-of-Distribution Image Detection in Neural Networks, ICLR",
    year=2018,
    url="https://arxiv.org/abs/1706.02690",
    needs=("features",),
    learns=False,
)
class ODIN(RawFeatures, FeatureHead):
    """Score ``-max softmax(f(x') / T)`` of inputs x' perturbed at extraction (``featood extract --with odin``).

    The perturbation moves the image one small step towards its predicted class, which increases the probability of
    in-distribution images more. The default step is the authors' value for DenseNet on CIFAR, 0.0014, for every
    network; the authors and OpenOOD tune it on validation outliers. Where the gradient is exactly zero, the authors'
    code takes a step and this implementation does not.
    """

    feature: str = option("odin", "column with the logits of the perturbed inputs")
    temperature: float = option(1000.0, "softmax temperature T", low=1e-6)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated largest probability ``[B]``."""
        return -(self.vectors(block).double() / self.temperature).softmax(1).amax(1)
