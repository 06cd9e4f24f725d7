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
from featood.errors import DataError
from featood.heads.base.feature_head import RawFeatures
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.registry import register
from featood.options import option


class TokenEnergy(nn.Module):
    """Energy of one-hot sequences ``[B, L, K]``."""

    def __init__(self, net: nn.Module, tokens: int) -> None:
        super().__init__()
        self.net, self.tokens = net, tokens

    def forward(self, one_hot: Tensor) -> Tensor:
        """Return energies ``[B]``."""
        return -self.net(one_hot.flatten(1)).squeeze(1)

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
    """

    transient: ClassVar[tuple[str, ...]] = ("chains",)
    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 4, "batch_size": 64, "width": 32, "depth": 1, "lr": 1e-2, "feature": "tokens", "tokens": 16,
        "steps": 5, "buffer_size": 200,
    }  # fmt: skip

    tokens: int = option(4, "number of values of a token", low=2)
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
        """Make the perceptron and the chains."""
        model = TokenEnergy(self.mlp(size * self.tokens, 1, generator), self.tokens)
        model.chains = TokenChains(
            size, self.tokens, self.buffer_size, generator=generator, restart=self.restart
        )
        return model

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
        return model(model.one_hot(rows.long(), rows))
