"""Features scaled by a ratio of activations that depends on how much they shift under a perturbation."""

from __future__ import annotations

__all__ = ["AdaSCALEA"]

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.base.last_layer import linear_logits
from featood.heads.registry import register
from featood.heads.reshaping._adascale import AdaSCALE


@register(
    "adascale-a",
    title="Adaptive activation scaling (AdaSCALE-A)",
    paper="Regmi, AdaSCALE: Adaptive Scaling for OOD Detection, arXiv",
    year=2025,
    url="https://arxiv.org/abs/2503.08023",
    needs=("features", "classifier"),
)
class AdaSCALEA(AdaSCALE):
    """Score the logits of ``z exp(r)``, r being the ratio of ``scale`` with a percentile that depends on the row.

    The largest activations of outliers shift more if the values of the image that matter least are moved
    (``featood extract --with adascale``). The shift is ``Q = w sum |z - z'|`` over the largest activations, plus the
    sum of more of the activations z' of the moved image. A row whose Q is not exceeded by a share F of the training
    rows has the percentile ``lowest + (1 - F) (highest - lowest)``, so rows that shift least are scaled most.

    The authors search the percentiles on validation outliers, from 60 to 99. The presets for small images have the
    values that their code begins with, that for ImageNet has their result for ResNet-50. Of few features, such
    percentiles leave so little that the ratio is mostly noise, so the defaults are the lowest of the search. At least
    one activation counts, where the authors' shares round to none. The distribution of Q is that of training rows
    instead of validation rows.
    """

    def scaled(self, features: Tensor, ratios: Tensor, fitted: State) -> Tensor:
        """Scale the features."""
        return linear_logits(features * ratios.exp(), fitted)
