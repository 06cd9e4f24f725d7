r"""Invertible residual networks: blocks :math:`x + g(x)`, where :math:`g` is a contraction.

The Jacobian of :math:`g` has the closed form :math:`J = W_k D_{k-1} \cdots D_1 W_1`, with the slopes of the activations
on the diagonals. The exact :math:`\log \det(I + J)` can be computed in the smaller of the dimensions of a row and of a
hidden layer, as :math:`\det(I + AB) = \det(I + BA)`; its power series needs matrix products, but no second derivatives.
"""

from __future__ import annotations

__all__ = ["ResidualBlock", "ResidualFlow"]

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.flows.coupling import ActNorm
from featood.flows.density import FlowDensity
from featood.nets.initialise import seeded
from featood.nets.lipschitz import LipschitzLinear

CHUNK_BYTES = 1 << 26
EXACT = 8
"""Maximum size of matrices whose exact determinant is used in training."""
FIXED_POINT_ITERATIONS = 300


class ResidualBlock(nn.Module):
    """The map ``x + g(x)``, where g is a perceptron with ELUs and a Lipschitz constant below 1.

    Parameters
    ----------
    size, width, depth : int
        Number of features, of units per hidden layer, and of hidden layers (at least one).
    bound : float
        Maximum spectral norm of each linear layer, below 1.
    terms : int
        Number of terms of the power series that are always computed.
    roulette : bool
        Whether to add a random number of further terms, weighted such that the expectation is the complete series.
    """

    def __init__(self, size: int, width: int, depth: int, bound: float, terms: int, roulette: bool) -> None:
        super().__init__()
        widths = [size, *[width] * depth, size]
        self.layers = nn.ModuleList(LipschitzLinear(*pair, bound) for pair in pairwise(widths))
        self.smallest = min(size, width)
        self.terms, self.roulette = terms, roulette

    def forward(
        self, rows: Float[Tensor, "B D"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` towards the base, with log-determinants ``[B]``.

        With a generator and more than `EXACT` dimensions, they are estimates with one probe per row, otherwise exact.
        """
        matrices = self.matrices()
        residual, slopes = self.residual(rows, matrices)
        if generator is None or self.smallest <= EXACT:
            return rows + residual, exact_log_det(matrices, slopes)
        probes = 2.0 * torch.randint(0, 2, rows.shape, generator=generator, device=rows.device) - 1
        extra = 0
        if self.roulette:
            draw = float(torch.rand((), generator=generator, device=generator.device))
            extra = int(-math.log2(max(1 - draw, 1e-6)))
        return rows + residual, series_log_det(matrices, slopes, probes.to(rows), self.terms, extra)

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` back by fixed-point iteration."""
        matrices, rows = self.matrices(), latent
        for _ in range(FIXED_POINT_ITERATIONS):
            rows = latent - self.residual(rows, matrices)[0]
        return rows

    def matrices(self) -> list[Float[Tensor, "_ _"]]:
        """Return the matrices of the layers, whose norms are within the bound."""
        return [layer.matrix() for layer in self._layers()]

    def residual(
        self, rows: Float[Tensor, "B D"], matrices: list[Float[Tensor, "_ _"]]
    ) -> tuple[Float[Tensor, "B D"], list[Float[Tensor, "B width"]]]:
        """Return g ``[B, D]`` and the slopes of the activations of each hidden layer ``[B, width]``."""
        slopes = []
        *hidden, last = zip(matrices, self._layers(), strict=True)
        for matrix, layer in hidden:
            rows = rows @ matrix.T + layer.bias
            slopes.append(rows.clamp(max=0).exp())
            rows = F.elu(rows)
        return rows @ last[0].T + last[1].bias, slopes

    def _layers(self) -> list[LipschitzLinear]:
        return [layer for layer in self.layers if isinstance(layer, LipschitzLinear)]


class ResidualFlow(FlowDensity):
    """Residual blocks, each preceded by a normalisation.

    Parameters
    ----------
    size, blocks : int
        Number of features and blocks.
    width, depth, bound, terms, roulette
        See :class:`ResidualBlock`.
    generator : torch.Generator, optional
        Generator of the initial weights.

    References
    ----------
    Behrmann et al., Invertible Residual Networks, ICML 2019; Chen et al., Residual Flows for Invertible
    Generative Modeling, NeurIPS 2019 (the unbiased series).
    """

    def __init__(
        self,
        size: int,
        blocks: int,
        width: int,
        depth: int = 2,
        bound: float = 0.9,
        terms: int = 5,
        roulette: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        flows: list[nn.Module] = []
        with seeded(generator):
            for _ in range(blocks):
                flows += [ActNorm(size), ResidualBlock(size, width, depth, bound, terms, roulette)]
        super().__init__(size, flows)

    def forward(
        self, rows: Float[Tensor, "B D"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` to the base, with log-determinants ``[B]``, estimated if a generator is given."""
        log_det = rows.new_zeros(len(rows))
        for flow in self.flows:
            rows, part = flow(rows, generator) if isinstance(flow, ResidualBlock) else flow(rows)
            log_det = log_det + part
        return rows, log_det


def exact_log_det(
    matrices: list[Float[Tensor, "_ _"]], slopes: list[Float[Tensor, "B _"]]
) -> Float[Tensor, "B"]:
    """``log det(I + J)`` ``[B]``, computed in the smaller of the dimensions of a row and of a hidden layer."""
    first, *rest = matrices
    if first.shape[0] < first.shape[1]:  # cyclic product, from the first hidden layer to itself
        rest[-1] = first @ rest[-1]
        first = torch.eye(first.shape[0], dtype=first.dtype, device=first.device)
    eye = torch.eye(first.shape[1], dtype=first.dtype, device=first.device)
    chunk = max(1, CHUNK_BYTES // (first.element_size() * first.numel()))
    parts = []
    for block in zip(*[slope.split(chunk) for slope in slopes], strict=True):
        jacobian = first
        for slope, matrix in zip(block, rest, strict=True):
            jacobian = matrix @ (slope[:, :, None] * jacobian)
        parts.append(torch.linalg.slogdet(eye + jacobian).logabsdet)
    return torch.cat(parts)


def series_log_det(
    matrices: list[Float[Tensor, "_ _"]],
    slopes: list[Float[Tensor, "B _"]],
    probes: Float[Tensor, "B D"],
    terms: int,
    extra: int = 0,
) -> Float[Tensor, "B"]:
    """Estimate ``log det(I + J) = sum_k (-1)^(k+1) tr(J^k) / k`` ``[B]`` with one probe per row.

    Each of the `extra` terms has half the probability of the previous one, and twice its weight.
    """
    first, *rest = matrices
    total = probes.new_zeros(len(probes))
    image = probes
    for k in range(1, terms + extra + 1):
        image = image @ first.T
        for slope, matrix in zip(slopes, rest, strict=True):
            image = (image * slope) @ matrix.T
        weight = 2.0 ** max(k - terms, 0) * (-1) ** (k + 1) / k
        total = total + weight * (image * probes).sum(1)
    return total
