"""Energies that are learned as the difference from those of normal distributions, one for each class."""

from __future__ import annotations

__all__ = ["GaussianBase", "TiltedNet", "learned_energy"]

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.energies.classifier import Logits, free_energy
from featood.energies.sgld import Energy
from featood.numerics.gaussian import whitening
from featood.numerics.moments import ClassMoments


class GaussianBase(nn.Module):
    """Normal distributions of classes, with one covariance, which is the identity for whitened rows.

    Densities and samples are those of whitened rows, in which noise and steps of samplers have the same scale in all
    directions.

    Parameters
    ----------
    size : int
        Number of features D.
    classes : int
        Number of classes C.
    """

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.center: Tensor
        self.matrix: Tensor
        self.means: Tensor
        self.shares: Tensor
        self.peak: Tensor
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("matrix", torch.eye(size))
        self.register_buffer("means", torch.zeros(classes, size))
        self.register_buffer("shares", torch.ones(classes) / classes)
        self.register_buffer("peak", torch.tensor(-0.5 * size * math.log(2 * math.pi)))

    @torch.no_grad()
    def fit(self, rows: Float[Tensor, "N D"], labels: Int[Tensor, "N"], ridge: float) -> None:
        """Set the whitening, the means and the shares of classes from training rows.

        Parameters
        ----------
        rows, labels : Tensor
            Training rows ``[N, D]`` and their classes ``[N]``.
        ridge : float
            Smallest ridge on the covariance within classes, relative to its mean variance.

        Raises
        ------
        DataError
            If all rows of each class are equal.
        """
        moments = ClassMoments.of(rows, labels)
        map_ = whitening(moments.mean(), moments.within_covariance(), ridge, "the covariance within classes")
        self.center.copy_(map_.center)
        self.matrix.copy_(map_.matrix)
        self.means[moments.classes] = map_(moments.means()).to(self.means)
        self.shares.copy_(torch.bincount(labels, minlength=len(self.shares)) / len(labels))

    def whiten(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Return whitened rows ``[B, D]``."""
        return (rows - self.center) @ self.matrix

    def forward(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return log-densities of whitened rows and classes, ``log p(z, c)``, ``[B, C]``; `peak` is that of a mean."""
        with torch.autocast(rows.device.type, enabled=False):  # differences of large numbers
            rows = rows.to(self.means.dtype)
            products = torch.addmm(self.means.square().sum(1), rows, self.means.T, alpha=-2)
            squared = rows.square().sum(1, keepdim=True) + products
            return self.peak - 0.5 * squared + self.shares.log()

    def log_density(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Return the log-density of whitened rows ``[B]``."""
        return self(rows).logsumexp(1)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} D"]:
        """Draw whitened rows ``[count, D]``."""
        chosen = torch.multinomial(self.shares, count, replacement=True, generator=generator)
        shape = count, self.means.shape[1]
        draws = torch.randn(shape, generator=generator, device=generator.device, dtype=self.means.dtype)
        return self.means[chosen] + draws


class TiltedNet(nn.Module):
    """A network whose logits are added to the log-densities of a base.

    Far from the data, where a network learns nothing, the energy is about that of the base.

    Parameters
    ----------
    net : Module
        From whitened rows ``[B, D]`` to logits: ``[B, 1]``, or ``[B, C]`` with one for each class.
    base : GaussianBase
        The base, of C classes or of one.
    """

    def __init__(self, net: nn.Module, base: GaussianBase) -> None:
        super().__init__()
        self.net, self.base = net, base

    def forward(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Map whitened rows ``[B, D]`` to logits ``[B, K]``, whose logsumexp is the log-density up to a constant."""
        logits, known = self.net(rows), self.base(rows)
        return logits + (known.logsumexp(1, keepdim=True) if logits.shape[1] == 1 else known)


def learned_energy(logits: Logits) -> Energy:
    """Return the part of the free energy that is learned: its difference from that of the base, if there is one.

    Contrastive losses have the same gradients with either, and penalties on the size of the energy, or of its slope,
    are meant for this part.
    """
    whole = free_energy(logits)
    if not isinstance(logits, TiltedNet):
        return whole
    return lambda x: whole(x) + logits.base.log_density(x)
