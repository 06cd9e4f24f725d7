"""Contrastive divergence of token sequences, sampled by Gibbs with gradients."""

from __future__ import annotations

__all__ = ["DiscreteContrastiveDivergence"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.cache.feature_set import FeatureSet
from featood.energies import TokenChains, contrastive_divergence, frozen
from featood.errors import DataError, UsageError
from featood.heads.base.feature_head import RawFeatures
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.registry import register
from featood.nets import MotifConv
from featood.options import option

PART = 256
"""Rows that are scored together by convolutions, whose maps are large in float64."""

PUBLISHED: Mapping[str, Any] = {
    "network": "conv",
    "filters": 128,
    "kernel": 20,
    "width": 1000,
    "depth": 1,
    "activation": "relu",
    "epochs": 51,
    "batch_size": 512,
    "lr": 1e-4,
    "schedule": "constant",
    "warmup": 2500,
    "steps": 40,
    "buffer_size": 9999,
    "restart": 0.0,
    "l2": 1.0,
}
"""Settings of Elflein et al. for the genomics data; 51 epochs of a million rows are their 100,000 updates."""


class TokenEnergy(nn.Module):
    """Energy of one-hot sequences ``[B, L, K]``; the network gets them flattened, unless motifs come before it."""

    def __init__(self, net: nn.Module, tokens: int, motifs: MotifConv | None = None) -> None:
        super().__init__()
        self.net, self.tokens, self.motifs = net, tokens, motifs

    def forward(self, one_hot: Tensor) -> Tensor:
        """Return energies ``[B]``."""
        rows = one_hot.flatten(1) if self.motifs is None else self.motifs(one_hot)
        return -self.net(rows).squeeze(1)

    def one_hot(self, tokens: Tensor, like: Tensor) -> Tensor:
        """Return tokens ``[B, L]`` as ``[B, L, K]``, in the type of a tensor."""
        return F.one_hot(tokens, self.tokens).to(like.dtype)


@register(
    "discrete-cd",
    title="Energy of tokens by contrastive divergence",
    paper="Grathwohl et al., Oops I Took A Gradient: Scalable Sampling for Discrete Distributions, ICML",
    year=2021,
    url="https://arxiv.org/abs/2102.04509",
    needs=("features",),
)
class DiscreteContrastiveDivergence(RawFeatures, PerceptronHead):
    """Score the energy of token sequences, of a network trained to contrast them with its own samples.

    A row is a sequence of whole numbers from 0 to `tokens` - 1, such as the bases of DNA as 0 to 3. Samples are
    persistent chains that change one token in each step, proposed by the gradient of the energy (Gibbs with gradients).
    The loss is ``mean E(x) - mean E(x~) + l2 (mean E(x)^2 + mean E(x~)^2)``, as of `cd`.

    The network is a perceptron on the one-hot tokens, which has weights for each position and therefore suits aligned
    sequences, or, with ``network="conv"``, a perceptron on the maxima over positions of three convolutions, which find
    motifs wherever they are. The preset ``published`` has the settings of Elflein et al. (2021) for sequences of 250
    bases; they kept the weights with the highest AUROC on other OOD sequences, and accepted samples with another
    probability.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": PUBLISHED}

    transient: ClassVar[tuple[str, ...]] = ("chains",)
    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 4, "batch_size": 64, "width": 32, "depth": 1, "lr": 1e-2, "feature": "tokens", "tokens": 16,
        "steps": 5, "buffer_size": 200,
    }  # fmt: skip

    tokens: int = option(4, "number of values of a token", low=2)
    network: str = option(
        "mlp",
        "perceptron on all tokens, or on motifs found by convolutions",
        choices=("mlp", "conv"),
    )
    filters: int = option(128, "motifs, with network=conv", low=4)
    kernel: int = option(20, "tokens that each of three convolutions covers, with network=conv", low=1)
    steps: int = option(20, "changes of a token between two updates", low=1)
    buffer_size: int = option(5000, "number of persistent chains", low=1)
    restart: float = option(0.05, "probability that a chain is reinitialised", low=0, high=1)
    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)
    validation: float = option(
        0.0,
        "share of the rows held out; their contrastive loss says little about the quality of the fit",
        low=0,
        high=0.9,
    )

    def resolve_options(self) -> Mapping[str, Any]:
        """Check that the options apply to the network."""
        if self.network == "conv" and (self.lipschitz or self.negative_linear):
            wrong = "lipschitz" if self.lipschitz else "negative_linear"
            raise UsageError(f"{self.name}: {wrong} applies to network=mlp only")
        return {}

    def vectors(self, block: FeatureSet) -> Tensor:
        """Return the tokens of a block ``[B, L]``, as numbers.

        Raises
        ------
        DataError
            If a value is not a whole number from 0 to `tokens` - 1.
        """
        rows = super().vectors(block)
        wrong = ((rows != rows.round()) | (rows < 0) | (rows >= self.tokens)) & rows.isfinite()
        if bool(wrong.any()):
            raise DataError(
                f"{self.name}: {block.name} has the value {float(rows[wrong][0]):g}; tokens are whole numbers from 0 "
                f"to {self.tokens - 1} (set tokens if there are more)"
            )
        return rows

    def build(self, size: int, classes: int, generator: torch.Generator) -> TokenEnergy:
        """Make the network and the chains."""
        motifs = self._motifs(size, generator) if self.network == "conv" else None
        width = motifs.filters if motifs else size * self.tokens
        model = TokenEnergy(self.mlp(width, 1, generator), self.tokens, motifs)
        model.chains = TokenChains(
            size, self.tokens, self.buffer_size, generator=generator, restart=self.restart
        )
        return model

    def _motifs(self, size: int, generator: torch.Generator) -> MotifConv:
        motifs = MotifConv(self.tokens, self.filters, self.kernel, self.activation, generator)
        if size < motifs.shortest:
            raise UsageError(
                f"{self.name}: sequences of {size} tokens are too short for kernel={self.kernel}, which needs "
                f"{motifs.shortest}; set kernel to at most {(size - 1) // 3 + 1}"
            )
        return motifs

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw samples and return the contrastive loss."""
        with frozen(model):
            samples = model.chains.sample(model, len(rows), steps=self.steps, generator=generator)
        return contrastive_divergence(
            model, model.one_hot(rows.long(), rows), model.one_hot(samples, rows), l2=self.l2
        )

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return energies ``[B]``."""
        parts = rows.split(PART) if self.network == "conv" else [rows]
        return torch.cat([model(model.one_hot(part.long(), part)) for part in parts])
