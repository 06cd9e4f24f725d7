"""Likelihood regret: how much the evidence bound of one image rises if its posterior is optimised for it alone."""

from __future__ import annotations

__all__ = ["Regret", "likelihood_regret"]

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.variational import ImageVAE

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


def likelihood_regret(vae: ImageVAE, images: Tensor, steps: int, lr: float) -> Tensor:
    """Return the regrets ``max_q L(x, q) - L(x, q(h|x))`` ``[B]``, L being the evidence bound in nats.

    Mean and log standard deviation of each image's posterior are optimised by Adam, from those of the encoder. Each
    step has another sample, which all images share, so that no image depends on others; both bounds that are
    compared have the samples of the network's score.

    Parameters
    ----------
    vae : ImageVAE
        In evaluation mode.
    images : Tensor
        Normalised images ``[B, C, H, W]``.
    steps : int
        Number of updates.
    lr : float
        Learning rate of Adam.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        start = vae.posterior(images)
        before = vae.evidence_bound(images, *start, vae.draws)
    mean, log_width = (values.clone().requires_grad_() for values in start)
    optimizer = torch.optim.Adam([mean, log_width], lr)
    for _ in range(steps):
        draw = torch.randn(1, mean.shape[1], generator=generator).to(mean)
        with torch.enable_grad():
            bound = vae.evidence_bound(images, mean, log_width, draw).sum()
        mean.grad, log_width.grad = torch.autograd.grad(-bound, (mean, log_width))
        optimizer.step()
    with torch.no_grad():
        return vae.evidence_bound(images, mean, log_width, vae.draws) - before


@dataclasses.dataclass(frozen=True)
class Regret:
    """The column ``regret`` ``[B, 1]`` of networks trained by ``vae``, larger for outliers; ``column`` scores it.

    The authors optimise all weights of a copy of the encoder for each image, and compare bounds of 1,000 samples. Here
    the posterior itself is optimised, which is what these weights determine, for a batch of images at once.

    Parameters
    ----------
    steps : int
        Updates of the posterior of each image.
    lr : float
        Learning rate of Adam.

    References
    ----------
    Xiao et al., Likelihood Regret: An Out-of-Distribution Detection Score for Variational Auto-encoder, NeurIPS 2020.
    """

    kind: ClassVar[str] = "regret"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    steps: int = 100
    lr: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.lr < float("inf"):
            raise UsageError(
                f"regret needs a step and a positive learning rate, not {self.steps} and {self.lr}"
            )

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column of a batch.

        Raises
        ------
        UsageError
            If the network was not trained by ``vae``.
        """
        if not isinstance(module, ImageVAE):
            raise UsageError(f"the column {self.kind} needs a network trained by featood train vae")
        return {self.kind: likelihood_regret(module, inputs, self.steps, self.lr)[:, None]}
