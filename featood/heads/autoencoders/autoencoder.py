"""Reconstruction error of an autoencoder."""

from __future__ import annotations

__all__ = ["Autoencoder", "AutoencoderNet"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.heads.base.feature_head import space_option
from featood.heads.base.trained_head import TrainedHead
from featood.heads.registry import register
from featood.nets.mlp import ACTIVATIONS, MLP
from featood.options import option


class AutoencoderNet(nn.Module):
    """An encoder ``[B, D]`` to ``[B, latent]``, and a decoder back."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


@register(
    "autoencoder",
    title="Reconstruction error of an autoencoder",
    paper="Hawkins et al., Outlier Detection Using Replicator Neural Networks, DaWaK",
    year=2002,
    url="https://doi.org/10.1007/3-540-46145-0_17",
    needs=("features",),
    caution="it ignores the classes: on features of classifiers, 2 to 4 points of AUROC below Gaussian classes",
)
class Autoencoder(TrainedHead):
    """Score ``|z - decoder(encoder(z))|^2`` of an autoencoder with a bottleneck, trained on the features.

    Without hidden layers, the optimal network is the projection on the leading principal components.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        **TrainedHead.testing_options,
        "width": 32,
        "depth": 1,
        "lr": 1e-2,
    }

    space: str = space_option("l2-whiten")
    latent: int = option(0, "size of the latent space (0: an eighth of the feature size)", low=0)
    depth: int = option(2, "hidden layers of the encoder, and of the decoder", low=0)
    width: int = option(100, "units of a hidden layer", low=1)
    activation: str = option("silu", "activation function", choices=tuple(ACTIVATIONS))

    def latent_size(self, size: int) -> int:
        """Return the size of the latent space for `size` features."""
        return self.latent or max(1, size // 8)

    def perceptrons(self, size: int, codes: int, generator: torch.Generator) -> tuple[MLP, MLP]:
        """Make an encoder with `codes` outputs per latent dimension, and the decoder."""
        latent, hidden = self.latent_size(size), [self.width] * self.depth
        encoder = MLP(size, hidden, codes * latent, self.activation, generator)
        return encoder, MLP(latent, hidden, size, self.activation, generator)

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make encoder and decoder."""
        return AutoencoderNet(*self.perceptrons(size, 1, generator))

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the mean squared error."""
        return {"loss": self.score_rows(model, rows).mean() / rows.shape[1]}

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return squared reconstruction errors ``[B]``."""
        return (rows - model.decoder(model.encoder(rows))).square().sum(1)
