r"""Invertible residual networks of vectors and maps: blocks :math:`x + g(x)`, where :math:`g` is a contraction.

The Jacobian of :math:`g` has the closed form :math:`J = W_k D_{k-1} \cdots D_1 W_1`, with the slopes of the activations
on the diagonals. The exact :math:`\log \det(I + J)` can be computed in the smaller of the dimensions of a row and of a
hidden layer, as :math:`\det(I + AB) = \det(I + BA)`; its power series needs matrix products, but no second derivatives.
The layers of maps are convolutions, which have the same series; the exact determinant is computed for tiny maps only.
"""

from __future__ import annotations

__all__ = ["ResidualBlock", "ResidualFlow", "residual_convolutions", "residual_perceptron"]

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.flows.coupling import ActNorm
from featood.flows.density import FlowDensity
from featood.nets.initialise import seeded
from featood.nets.lipschitz import POWER_ITERATIONS, LipschitzLinear
from featood.nets.spectral import SpectralConv2d
from featood.numerics.memory import by_chunks

CHUNK_BYTES = 1 << 26
EXACT = 8
"""Maximum size of matrices whose exact determinant is used in training."""
EXACT_MAP = 64
"""Maximum number of values of maps for which exact determinants are computed at all."""
FIXED_TERMS = 20
"""Terms of the series in evaluation, for larger maps."""
FIXED_POINT_ITERATIONS = 300


class ResidualBlock(nn.Module):
    """The map ``x + g(x)``, where g is a network with ELUs and a Lipschitz constant below 1.

    Parameters
    ----------
    layers : iterable of Module
        The linear layers of g, all :class:`LipschitzLinear` or all :class:`SpectralConv2d` with bounds below 1; see
        :func:`residual_perceptron` and :func:`residual_convolutions`.
    smallest : int
        Size of the smallest matrix whose determinant is that of the Jacobian.
    terms : int
        Number of terms of the power series that are always computed.
    roulette : bool
        Whether to add a random number of further terms, weighted such that the expectation is the complete series.
    """

    estimates = True

    def __init__(self, layers: Iterable[nn.Module], smallest: int, terms: int, roulette: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.smallest, self.terms, self.roulette = smallest, terms, roulette

    def forward(
        self, rows: Float[Tensor, "B *shape"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B *shape"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` or maps ``[B, C, H, W]`` towards the base, with log-determinants ``[B]``.

        With a generator and more than `EXACT` dimensions, they are estimates with one probe per row. Otherwise they are
        exact, except for maps of more than `EXACT_MAP` values: `FIXED_TERMS` terms with one probe that is the same for
        all maps, so that a map's log-determinant does not depend on others.
        """
        weights = self.weights(rows)
        residual, slopes = self.residual(rows, weights)
        fixed = rows.ndim > 2 and self.smallest > EXACT_MAP
        if self.smallest <= EXACT or (generator is None and not fixed):
            return rows + residual, exact_log_det(weights, slopes)
        if generator is None:
            probe = _signs(rows[:1].shape, torch.Generator().manual_seed(0)).to(rows).expand_as(rows)
            return rows + residual, series_log_det(weights, slopes, probe, FIXED_TERMS)
        probes = _signs(rows.shape, generator)
        extra = 0
        if self.roulette:
            draw = float(torch.rand((), generator=generator, device=generator.device))
            extra = int(-math.log2(max(1 - draw, 1e-6)))
        return rows + residual, series_log_det(weights, slopes, probes.to(rows), self.terms, extra)

    def inverse(self, latent: Float[Tensor, "B *shape"]) -> Float[Tensor, "B *shape"]:
        """Map points back by fixed-point iteration, until they do not change any more."""
        weights, rows = self.weights(latent), latent
        for _ in range(FIXED_POINT_ITERATIONS):
            before, rows = rows, latent - self.residual(rows, weights)[0]
            if torch.equal(before, rows):
                break
        return rows

    def weights(self, rows: Float[Tensor, "B *shape"]) -> list[Tensor]:
        """Return the matrices or kernels of the layers, whose norms are within the bound for such rows."""
        return [
            layer.matrix() if isinstance(layer, LipschitzLinear) else layer.bounded(rows)
            for layer in self._layers()
        ]

    def residual(
        self, rows: Float[Tensor, "B *shape"], weights: list[Tensor]
    ) -> tuple[Float[Tensor, "B *shape"], list[Tensor]]:
        """Return g, and the slopes of the activations of each hidden layer."""
        slopes = []
        *hidden, last = zip(weights, self._layers(), strict=True)
        for weight, layer in hidden:
            rows = _linear(rows, weight, layer.bias)
            slopes.append(rows.clamp(max=0).exp())
            rows = F.elu(rows)
        return _linear(rows, last[0], last[1].bias), slopes

    def _layers(self) -> list[Any]:
        return list(self.layers)


def residual_perceptron(
    size: int, width: int, depth: int, bound: float, terms: int, roulette: bool
) -> ResidualBlock:
    """Return a block of vectors with `depth` hidden layers; for the others see :class:`ResidualBlock`."""
    layers = [LipschitzLinear(*pair, bound) for pair in pairwise([size, *[width] * depth, size])]
    return ResidualBlock(layers, min(size, width), terms, roulette)


def residual_convolutions(
    shape: tuple[int, int, int], width: int, bound: float, terms: int, roulette: bool
) -> ResidualBlock:
    """Return a block of maps ``(C, H, W)``: convolutions with kernels of 3, 1 and 3 pixels, as published.

    Their norms are those of the convolutions themselves, not of their kernels as matrices.
    """
    channels = shape[0]
    convolutions = [
        nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, width, 1), nn.Conv2d(width, channels, 3, padding=1)
    ]  # fmt: skip
    layers = [SpectralConv2d(conv, bound, POWER_ITERATIONS) for conv in convolutions]
    for layer in layers:  # norms depend on the size of the maps
        layer.bounded(torch.zeros(1, layer.in_channels, *shape[1:]))
    return ResidualBlock(layers, math.prod(shape), terms, roulette)


class ResidualFlow(FlowDensity):
    """Residual blocks of vectors, each preceded by a normalisation.

    Parameters
    ----------
    size, blocks : int
        Number of features and blocks.
    width, depth : int
        Number of units per hidden layer of a block, and of hidden layers (at least one).
    bound : float
        Maximum spectral norm of each linear layer, below 1.
    terms, roulette
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
                flows += [ActNorm(size), residual_perceptron(size, width, depth, bound, terms, roulette)]
        super().__init__(size, flows)


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a matrix ``[K, D]`` to rows, or a kernel ``[K, C, k, k]`` to maps, which keep their size."""
    if weight.ndim == 4:
        return F.conv2d(rows, weight, bias, padding=weight.shape[-1] // 2)
    image = rows @ weight.T
    return image if bias is None else image + bias


def _signs(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator, device=generator.device) - 1


def exact_log_det(weights: list[Tensor], slopes: list[Tensor]) -> Float[Tensor, "B"]:
    """``log det(I + J)`` ``[B]``, computed in the smaller of the dimensions of a row and of a hidden layer.

    For maps, it is computed in the dimension of a map.
    """
    if weights[0].ndim == 4:
        return _exact_log_det_of_maps(weights, slopes)
    first, *rest = weights
    if first.shape[0] < first.shape[1]:  # cyclic product, from the first hidden layer to itself
        rest[-1] = first @ rest[-1]
        first = torch.eye(first.shape[0], dtype=first.dtype, device=first.device)
    eye = torch.eye(first.shape[1], dtype=first.dtype, device=first.device)

    def log_det(*block: Tensor) -> Tensor:
        jacobian = first
        for slope, matrix in zip(block, rest, strict=True):
            jacobian = matrix @ (slope[:, :, None] * jacobian)
        return torch.linalg.slogdet(eye + jacobian).logabsdet

    return by_chunks(log_det, max(1, CHUNK_BYTES // (first.element_size() * first.numel())), *slopes)


def _exact_log_det_of_maps(
    kernels: list[Float[Tensor, "_ _ _ _"]], slopes: list[Float[Tensor, "B _ H W"]]
) -> Float[Tensor, "B"]:
    first, *rest = kernels
    shape = first.shape[1], *slopes[0].shape[2:]
    eye = torch.eye(math.prod(shape), dtype=first.dtype, device=first.device)
    columns = _linear(eye.view(-1, *shape), first)
    found = []
    for row in zip(*slopes, strict=True):
        jacobian = columns
        for slope, kernel in zip(row, rest, strict=True):
            jacobian = _linear(slope * jacobian, kernel)
        found.append(torch.linalg.slogdet(eye + jacobian.flatten(1)).logabsdet)
    return torch.stack(found)


def series_log_det(
    weights: list[Tensor],
    slopes: list[Tensor],
    probes: Float[Tensor, "B *shape"],
    terms: int,
    extra: int = 0,
) -> Float[Tensor, "B"]:
    """Estimate ``log det(I + J) = sum_k (-1)^(k+1) tr(J^k) / k`` ``[B]`` with one probe per row.

    Each of the `extra` terms has half the probability of the previous one, and twice its weight.
    """
    first, *rest = weights
    total = probes.new_zeros(len(probes))
    image = probes
    for k in range(1, terms + extra + 1):
        image = _linear(image, first)
        for slope, weight in zip(slopes, rest, strict=True):
            image = _linear(image * slope, weight)
        factor = 2.0 ** max(k - terms, 0) * (-1) ** (k + 1) / k
        total = total + factor * (image * probes).flatten(1).sum(1)
    return total
