"""Energies learned by sliced score matching."""

from __future__ import annotations

__all__ = ["SlicedScoreMatching"]

from collections.abc import Iterable
from typing import ClassVar

from featood.energies import ScoreMatchingObjective, warn_if_piecewise_linear
from featood.extractors.models.energy_model import EnergyModel
from featood.extractors.models.model import ImageBatch
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.options import option


@register(
    "ssm",
    title="Energy by sliced score matching",
    paper="Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI",
    year=2019,
    url="https://arxiv.org/abs/1905.07088",
    needs=(),
)
class SlicedScoreMatching(ScoreMatchingObjective, EnergyModel):
    """Learn an energy of images by sliced score matching: its gradient is that of the log-density.

    The architecture needs a smooth activation (``conv4-32``). Images lie near a manifold, where the gradient is
    unbounded, so they get noise (0.1 in the thesis, with leaky ReLUs, whose second derivatives are zero).
    """

    image_noise: float = option(
        0.1, "standard deviation of the normal noise added to images, whose pixels are in [-1, 1]", low=0
    )
    data_noise: ClassVar[float] = 0.0  # type: ignore[misc]  # the images have noise already

    def prepare(self, net: SplitNet, batches: Iterable[ImageBatch]) -> None:
        """Warn if the second derivative of the activation is zero almost everywhere."""
        warn_if_piecewise_linear(net.body)
