"""Invertible residual network of images."""

from __future__ import annotations

__all__ = ["IResNet"]

import torch

from featood.extractors.models.flow_model import FlowModel
from featood.extractors.models.registry import register
from featood.flows import FlowDensity, image_residual_flow
from featood.options import option


@register(
    "iresnet",
    title="Invertible residual network",
    paper="Behrmann et al., Invertible Residual Networks, ICML",
    year=2019,
    url="https://arxiv.org/abs/1811.00995",
    needs=(),
)
class IResNet(FlowModel):
    """Learn the density of images by residual blocks with a Lipschitz constant below 1.

    The log-determinants are estimated: in training by random probes, and when images are scored by 20 terms of the
    series and one probe that is the same for all images. Published: 16 blocks of width 512 on each of three levels.
    """

    levels: int = option(2, "levels; on each, images are halved", low=1)
    blocks: int = option(4, "residual blocks on each level", low=1)
    width: int = option(32, "channels within a block", low=1)
    bound: float = option(0.9, "largest spectral norm of each convolution", low=0.01, high=0.99)
    terms: int = option(5, "terms of the series that estimates a determinant in training", low=1)
    roulette: bool = option(True, "add a random number of terms, which makes the estimate unbiased")

    def flow(self, shape: tuple[int, int, int]) -> FlowDensity:
        """Return the flow."""
        return image_residual_flow(
            shape,
            self.levels,
            self.blocks,
            self.width,
            self.bound,
            self.terms,
            self.roulette,
            torch.default_generator,
        )
