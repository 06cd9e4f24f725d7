"""A flow over a mixture of normal distributions, one for each class."""

from __future__ import annotations

__all__ = ["ClassMixture"]

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.numerics.gaussian import logsumexp_weighted, whitening
from featood.numerics.moments import ClassMoments

RIDGE = 1e-2
"""Smallest ridge on the covariance within classes, relative to its mean variance."""


class ClassMixture(nn.Module):
    """Flow with shared parameters whose base has one normal distribution for each class.

    Rows are first whitened by the covariance within classes. With a flow that starts as the identity, the density
    therefore starts as that of Gaussian classes with one covariance. The means of the base are trained.

    Parameters
    ----------
    flow : Module
        ``forward(rows, ...) -> (latents, log_det)``, and optionally ``initialize(rows)``, as in a chain of flows.
    size : int
        Number of features D.
    classes : int
        Number of classes C.
    """

    def __init__(self, flow: nn.Module, size: int, classes: int) -> None:
        super().__init__()
        self.flow = flow
        self.means = nn.Parameter(torch.zeros(classes, size))
        self.center: Tensor
        self.matrix: Tensor
        self.log_det: Tensor
        self.shares: Tensor
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("matrix", torch.eye(size))
        self.register_buffer("log_det", torch.zeros(()))
        self.register_buffer("shares", torch.ones(classes) / classes)

    @torch.no_grad()
    def initialize(self, rows: Float[Tensor, "N D"], labels: Int[Tensor, "N"]) -> None:
        """Set the whitening and the means from training rows, and the flow from whitened rows around their means.

        A normalisation initialised from the rows themselves would shrink the directions between the means again.
        """
        moments = ClassMoments.of(rows, labels)
        map_ = whitening(moments.mean(), moments.within_covariance(), RIDGE, "the covariance within classes")
        self.center.copy_(map_.center)
        self.matrix.copy_(map_.matrix)
        self.log_det.copy_(-0.5 * map_.log_det)
        white = self._whitened(rows)
        if callable(start := getattr(self.flow, "initialize", None)):
            means = moments.means()[torch.searchsorted(moments.classes, labels)]
            start((rows - means.to(rows)) @ self.matrix)
        latents, _ = self.flow(white)
        found = ClassMoments.of(latents, labels)
        self.means.data[found.classes] = found.means().to(self.means)
        self.shares.copy_(torch.bincount(labels, minlength=len(self.shares)) / len(labels))

    def log_densities(self, rows: Float[Tensor, "B D"], *generator: torch.Generator) -> Float[Tensor, "B C"]:
        """Return the log-density of each class ``[B, C]``; a generator lets the flow estimate its determinants."""
        latents, log_det = self.flow(self._whitened(rows), *generator)
        products = torch.addmm(self.means.square().sum(1), latents, self.means.T, alpha=-2)
        squared = latents.square().sum(1, keepdim=True) + products
        constant = self.log_det - 0.5 * rows.shape[1] * math.log(2 * math.pi)
        return log_det[:, None] - 0.5 * squared + constant

    def forward(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Return :meth:`log_density`; modules without this method cannot be exported."""
        return self.log_density(rows)

    def log_density(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Return the log-density of the mixture ``[B]``, with the shares of the classes as weights."""
        return logsumexp_weighted(self.log_densities(rows), self.shares)

    def _whitened(self, rows: Tensor) -> Tensor:
        return (rows - self.center) @ self.matrix
