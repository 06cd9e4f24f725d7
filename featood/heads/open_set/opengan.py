"""Discriminator of features against generated ones."""

from __future__ import annotations

__all__ = ["Adversaries", "OpenGAN", "adversarial_losses"]

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from featood.heads.base.feature_head import space_option
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.registry import register
from featood.metrics import auroc
from featood.metrics.pseudo_outliers import crossed, other_rows
from featood.nets.mlp import ACTIVATIONS, MLP
from featood.options import option


class Adversaries(nn.Module):
    """A discriminator ``[B, D]`` to ``[B, 1]``, and a generator of rows from noise."""

    def __init__(self, discriminator: nn.Module, generator: nn.Module) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator

    def forward(self, rows: Tensor) -> Tensor:
        """Return the log-odds that rows are real ``[B]``."""
        return self.discriminator(rows)[:, 0].to(rows.dtype)


@register(
    "opengan",
    title="Discriminator against generated features (OpenGAN)",
    paper="Kong and Ramanan, OpenGAN: Open-Set Recognition via Open Data Generation, ICCV",
    year=2021,
    url="https://arxiv.org/abs/2104.02939",
    needs=("features",),
    uses=("outliers",),
    caution="without outliers, 10 to 26 points of AUROC below Gaussian classes on rows of unit length, depending on "
    "the seed, on the features of three classifiers",
)
class OpenGAN(PerceptronHead):
    """Score the negated log-odds that a discriminator gives to a row for being real.

    It is trained against a generator of features, and against outliers, if there are any (``--outliers``). The
    discriminator gets better and worse during the training, and the one that is kept matters most. The authors select
    it by its AUROC on outliers (``--validate-on``). By default, it is the one with the largest AUROC of held-out rows
    against crossed ones, of which each feature is that of the row or of a row of another class; this needs no outliers.

    The networks are perceptrons without the authors' batch normalisation, and both are updated in one step, with the
    ratio of the authors' learning rates. Higher means more out-of-distribution.
    """

    transient: ClassVar[tuple[str, ...]] = ("generator",)
    testing_options: ClassVar[Mapping[str, Any]] = {
        **PerceptronHead.testing_options, "lr": 1e-2, "generator_lr": 1e-2,
    }  # fmt: skip

    space: str = space_option("none")
    depth: int = option(2, "hidden layers of each network", low=0)
    activation: str = option(
        "leaky_relu", "activation function of the discriminator", choices=tuple(ACTIVATIONS)
    )
    noise_size: int = option(100, "input size of the generator", low=1)
    lr: float = option(1e-3, "initial learning rate of the discriminator", low=0)
    generator_lr: float = option(1.5e-3, "initial learning rate of the generator", low=0)
    patience: int = option(
        50, "stop after this many validations (about one per epoch) without a better one", low=1
    )

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make both networks."""
        hidden = [self.width] * self.depth
        return Adversaries(
            self.mlp(size, 1, generator), MLP(self.noise_size, hidden, size, "relu", generator)
        )

    def optimizer(self, model: Any) -> torch.optim.Optimizer:
        """Return an optimiser with a learning rate for each network."""
        groups: list[dict[str, Any]] = [
            {"params": list(model.discriminator.parameters())},
            {"params": list(model.generator.parameters()), "lr": self.generator_lr},
        ]
        return torch.optim.AdamW(
            groups, lr=self.lr, betas=(0.5, 0.999), weight_decay=self.weight_decay, fused=True
        )

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of both networks on as many generated rows as there are real ones."""
        real = rows[labels >= 0]
        noise = torch.randn(len(real), self.noise_size, generator=generator, device=generator.device)
        return adversarial_losses(model, real, model.generator(noise.to(rows)).to(rows), rows[labels < 0])

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return 1 - AUROC of the scores against crossed rows."""
        fixed = torch.Generator().manual_seed(self.seed)
        classes = labels.cpu() if len(labels.unique()) > 1 else torch.arange(len(labels))  # any other row
        outside = crossed(rows.cpu(), other_rows(classes, fixed), fixed).to(rows)
        scores = (self.score_rows(model, part).double().cpu().numpy() for part in (rows, outside))
        return torch.tensor(1 - auroc(*scores))

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the negated log-odds ``[B]``."""
        return -model(rows)


def adversarial_losses(
    odds: Callable[[Tensor], Tensor], real: Tensor, generated: Tensor, outliers: Tensor
) -> dict[str, Tensor]:
    """Return the sum of the losses of discriminator and generator, which have gradients only for their own parameters.

    The discriminator minimises ``-log d(real) - log(1 - d(generated)) - log(1 - d(outliers))``, each a mean, where d is
    the sigmoid of the log-odds; the generator minimises ``-log d(generated)``.

    Parameters
    ----------
    odds : callable
        The discriminator, from rows to log-odds ``[B]``.
    real, generated, outliers : Tensor
        ``[B, D]``; there may be no outliers.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and its parts ``real``, ``generated`` and ``fooled`` (the generator's).
    """
    at = generated.detach().requires_grad_(True)
    with torch.enable_grad():
        found = odds(at)
        fooled = softplus(-found).mean()
        (slope,) = torch.autograd.grad(fooled, at, retain_graph=True)
    step = (slope * generated).sum()
    parts = {"real": softplus(-odds(real)).mean(), "generated": softplus(found).mean()}
    loss = sum(parts.values()) + fooled.detach() + step - step.detach()
    if len(outliers):
        loss = loss + softplus(odds(outliers)).mean()
    return {"loss": loss, **parts, "fooled": fooled.detach()}
