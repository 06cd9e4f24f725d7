"""Flow of dense layers of images."""

from __future__ import annotations

__all__ = ["ApproximateFlow"]

import math
from typing import Any

import torch
from torch import nn

from featood.extractors.models.flow_model import FlowModel, density_of
from featood.extractors.models.model import ImageBatch
from featood.extractors.models.registry import register
from featood.flows import FlowDensity, approximate, bits_per_dim
from featood.flows.coupling import ActNorm
from featood.flows.density import Flatten
from featood.options import option
from featood.training.loop import Losses


@register(
    "approximate-flow",
    title="Flow of dense layers",
    paper="Gresele et al., Relative gradient optimization of the Jacobian term in unsupervised deep learning, "
    "NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2006.15090",
    needs=(),
)
class ApproximateFlow(FlowModel):
    """Learn the density of images by leaky ReLUs and linear layers that are orthogonal or products of such.

    It takes all values of an image as one vector, so a layer has one or two matrices of the size of their number. In
    training, the kinds ``orthogonal`` and ``reparameterized`` use the determinants of exactly orthogonal matrices;
    validation and scores always use the exact ones. Channels are standardised first, not each pixel, as some pixels
    are constant in many images.
    """

    layers: int = option(4, "layers of the flow", low=1)
    kind: str = option(
        "svd",
        "how matrices are kept orthogonal: by a penalty (the first two), reflections, or the matrix exponential (slow)",
        choices=approximate.KINDS,
    )
    penalty: float = option(
        1.0, "weight of the orthogonality penalty; at least 0.5 bounds the error of the approximation", low=0
    )

    def flow(self, shape: tuple[int, int, int]) -> FlowDensity:
        """Return the flow."""
        size = math.prod(shape)
        dense = approximate.ApproximateFlow(size, self.layers, self.kind, torch.default_generator)
        return FlowDensity(size, [ActNorm(shape[0]), Flatten(shape), dense])

    def losses(self, net: nn.Module, batch: ImageBatch) -> Losses:
        """Return the mean bits per dimension, with the penalty added in the same unit."""
        bits = super().losses(net, batch)["loss"]
        flow: Any = density_of(net).flows[0]
        dense = flow.flows[-1]
        penalty = bits_per_dim(-dense.penalty(), dense.size)
        return {"loss": bits + self.penalty * penalty, "bits_per_dim": bits, "penalty": penalty}
