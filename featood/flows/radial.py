r"""Radial flows, one for each class, evaluated for all classes at once.

A layer moves a point along the line to its centre, :math:`z' = z + g (z - c)` with :math:`g = \beta / (\alpha + r)` and
:math:`r = \|z - c\|`. After any number of layers, a point is a multiple of its row plus a linear combination of the
centres, so its norm and its distances to further centres can be computed from inner products. One matrix product gives
the inner products for all rows, classes and layers; the transformed points are never computed.
"""

from __future__ import annotations

__all__ = ["RadialFlows", "SingleRadialFlow", "radial_log_density"]

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.numerics.memory import by_chunks

CHUNK_BYTES = 1 << 26
TINY = 1e-300
"""Minimum squared distance, for a finite gradient of its square root."""


def radial_log_density(
    rows: Float[Tensor, "B D"],
    centers: Float[Tensor, "C L D"],
    alpha: Float[Tensor, "C L"],
    beta: Float[Tensor, "C L"],
) -> Float[Tensor, "B C"]:
    """Log-densities of rows under the radial flow of each class, with a standard normal base distribution.

    Parameters
    ----------
    rows : Tensor
        ``[B, D]``.
    centers : Tensor
        ``[C, L, D]`` for L layers, in the order from rows to base.
    alpha, beta : Tensor
        ``[C, L]`` with ``alpha > 0`` and ``beta > -alpha``, so that each layer is invertible.

    Returns
    -------
    Tensor
        ``[B, C]`` in float64, which is accurate enough for squared distances as differences of inner products.
    """
    chunk = max(1, CHUNK_BYTES // (8 * alpha.numel()))
    rows, centers, alpha, beta = (values.double() for values in (rows, centers, alpha, beta))
    products = (centers @ centers.mT).permute(1, 2, 0)
    return by_chunks(lambda part: _log_density(part, centers, products, alpha.T, beta.T), chunk, rows)


def _log_density(
    rows: Float[Tensor, "B D"],
    centers: Float[Tensor, "C L D"],
    products: Float[Tensor, "L L C"],
    alpha: Float[Tensor, "L C"],
    beta: Float[Tensor, "L C"],
) -> Float[Tensor, "B C"]:
    classes, layers, size = centers.shape
    dots = (rows @ centers.reshape(-1, size).T).unflatten(1, (classes, layers)).unbind(2)
    square = rows.square().sum(1)[:, None]
    # a point is the scale times the sum of its row and the weighted previous centres
    scale = rows.new_ones(())
    weights: list[Tensor] = []
    gains, slopes = [], []
    for layer, dot in enumerate(dots):
        if weights:
            dot = dot + (torch.stack(weights) * products[:layer, layer, None]).sum(0)
        inner = scale * dot - products[layer, layer]
        squared_radius = (square - products[layer, layer] - 2 * inner).clamp(min=TINY)
        gain, slope = _layer(squared_radius.sqrt(), alpha[layer], beta[layer])
        stretch = 1 + gain
        square = products[layer, layer] + stretch * (2 * inner + stretch * squared_radius)
        scale = scale * stretch
        weights.append(-gain / scale)
        gains.append(gain)
        slopes.append(slope)
    log_det = ((size - 1) * torch.stack(gains).log1p() + torch.stack(slopes).log1p()).sum(0)
    return log_det - 0.5 * (square + size * math.log(2 * math.pi))


def _layer(
    radius: Float[Tensor, "B C"], alpha: Float[Tensor, "C"], beta: Float[Tensor, "C"]
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """Return the gain ``g`` and ``d(r g)/dr``: the scale factors across and along the radius, minus one."""
    gain = beta / (alpha + radius)
    return gain, gain * (alpha / (alpha + radius))


class RadialFlows(nn.Module):
    """Radial flows of several classes; use one class for a single density.

    Parameters
    ----------
    classes, layers, size : int
        Number of flows, layers per flow, and features.
    generator : torch.Generator, optional
        Generator of the initial parameters, uniform within ``1 / sqrt(size)`` of zero.

    References
    ----------
    Rezende and Mohamed, Variational Inference with Normalizing Flows, ICML 2015.
    """

    def __init__(
        self, classes: int, layers: int, size: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)

        def draw(*shape: int) -> nn.Parameter:
            values = torch.rand(*shape, generator=generator, device=generator.device)
            return nn.Parameter((2 * values - 1).cpu() / math.sqrt(size))

        self.centers = draw(classes, layers, size)
        self.raw_alpha = draw(classes, layers)
        self.raw_beta = draw(classes, layers)

    def coefficients(self) -> tuple[Float[Tensor, "C L"], Float[Tensor, "C L"]]:
        """Return alpha and beta ``[C, L]``, within the bounds for invertible layers."""
        alpha = F.softplus(self.raw_alpha)
        return alpha, F.softplus(self.raw_beta) - alpha

    def log_density(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Log-densities ``[B, C]`` of rows ``[B, D]`` in float64."""
        return radial_log_density(rows, self.centers, *self.coefficients())

    def forward(self, rows: Float[Tensor, "B _ D"]) -> tuple[Float[Tensor, "B C D"], Float[Tensor, "B C"]]:
        """Map points ``[B, C or 1, D]`` to the base ``[B, C, D]``, with log-determinants ``[B, C]``."""
        alpha, beta = self.coefficients()
        log_det = rows.new_zeros(())
        for layer in range(self.centers.shape[1]):
            offset = rows - self.centers[:, layer]
            gain, slope = _layer(offset.norm(dim=2), alpha[:, layer], beta[:, layer])
            rows = rows + gain[:, :, None] * offset
            log_det = log_det + (rows.shape[2] - 1) * gain.log1p() + slope.log1p()
        return rows, log_det

    def inverse(self, latent: Float[Tensor, "B C D"]) -> Float[Tensor, "B C D"]:
        """Map points of the base ``[B, C, D]`` back; the radius solves a quadratic equation."""
        alpha, beta = self.coefficients()
        for layer in reversed(range(self.centers.shape[1])):
            a, b = alpha[:, layer], beta[:, layer]
            offset = latent - self.centers[:, layer]
            half = (offset.norm(dim=2) - a - b) / 2
            radius = half + (half.square() + a * offset.norm(dim=2)).sqrt()
            gain, _ = _layer(radius, a, b)
            latent = self.centers[:, layer] + offset / (1 + gain)[:, :, None]
        return latent


class SingleRadialFlow(nn.Module):
    """One radial flow, as a flow of rows ``[B, D]``.

    Parameters
    ----------
    layers, size, generator
        See :class:`RadialFlows`.
    """

    def __init__(self, layers: int, size: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.chain = RadialFlows(1, layers, size, generator)

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows towards the base, with log-determinants ``[B]``."""
        latent, log_det = self.chain(rows[:, None])
        return latent[:, 0], log_det[:, 0]

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points back."""
        return self.chain.inverse(latent[:, None])[:, 0]
