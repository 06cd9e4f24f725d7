"""Flows of images: squeezing, levels that leave out half of the channels, and the flows made of them.

Each flow maps images ``[B, C, H, W]`` to latents ``[B, D]`` with ``D = C H W``, and is initially an affine map.
"""

from __future__ import annotations

__all__ = ["FactorOut", "Squeeze", "image_glow", "image_realnvp", "image_residual_flow", "squeezed"]

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.flows.coupling import (
    ActNorm,
    CheckerboardCoupling,
    HalfCoupling,
    InvertibleLinear,
    MakeNetwork,
)
from featood.flows.density import Chain, Flatten, FlowDensity
from featood.flows.residual import residual_convolutions
from featood.nets.initialise import seeded

Shape = tuple[int, int, int]
"""``(C, H, W)``."""


class Squeeze(nn.Module):
    """Each square of two by two pixels as four channels."""

    def forward(
        self, maps: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B 4*C H//2 W//2"], Float[Tensor, "B"]]:
        """Return maps of half the size, with log-determinants of zero."""
        return F.pixel_unshuffle(maps, 2), maps.new_zeros(len(maps))

    def inverse(self, latent: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C//4 2*H 2*W"]:
        """Return maps of twice the size."""
        return F.pixel_shuffle(latent, 2)


class FactorOut(nn.Module):
    """Takes the first half of the channels as latents, and maps the others further.

    Parameters
    ----------
    shape : (int, int, int)
        ``(C, H, W)`` of the maps.
    rest : Module
        Flow of maps ``(C - C // 2, H, W)``, to vectors.

    References
    ----------
    Dinh et al., Density Estimation Using Real NVP, ICLR 2017, section 3.6.
    """

    estimates = True

    def __init__(self, shape: Shape, rest: Chain) -> None:
        super().__init__()
        channels, *self.size = shape
        self.out = channels // 2
        self.rest = rest

    def forward(
        self, maps: Float[Tensor, "B C H W"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map to latents, with log-determinants ``[B]``."""
        latent, log_det = self.rest(maps[:, self.out :], generator)
        return torch.cat([maps[:, : self.out].flatten(1), latent], 1), log_det

    def inverse(self, latent: Float[Tensor, "B *latent"]) -> Float[Tensor, "B C H W"]:
        """Map latents back, which may have any shape."""
        flat = latent.flatten(1)
        first = self.out * math.prod(self.size)
        out = flat[:, :first].reshape(-1, self.out, *self.size)
        return torch.cat([out, self.rest.inverse(flat[:, first:])], 1)

    def initialize(self, maps: Float[Tensor, "B C H W"]) -> None:
        """Initialise the further flows."""
        self.rest.initialize(maps[:, self.out :])


def squeezed(shape: Shape) -> Shape:
    """Return the shape of squeezed maps of a shape."""
    channels, height, width = shape
    return 4 * channels, height // 2, width // 2


def check_halved(shape: Shape, times: int, option: str) -> None:
    """Check that images can be halved several times.

    Raises
    ------
    UsageError
        If not; the text names the option that determines how often.
    """
    multiple = 2**times
    if shape[1] % multiple or shape[2] % multiple:
        side = multiple * max(1, round(shape[1] / multiple))
        raise UsageError(
            f"images of {shape[1]} x {shape[2]} pixels cannot be halved {times} times; choose a smaller --{option}, or "
            f"--image-size {side}, a multiple of {multiple}"
        )


def small_network(width: int) -> MakeNetwork:
    """Return a maker of the networks of Glow's couplings: convolutions of 3, 1 and 3 pixels with ReLUs."""
    return lambda inputs, outputs: nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 1), nn.ReLU(),
        nn.Conv2d(width, outputs, 3, padding=1),
    )  # fmt: skip


class _Residual(nn.Module):
    """The map ``x + f(x)`` with two convolutions, each after a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Apply the map."""
        return maps + self.layers(maps)


def residual_network(width: int, blocks: int) -> MakeNetwork:
    """Return a maker of the networks of RealNVP's couplings: residual blocks, without normalisation."""
    return lambda inputs, outputs: nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        *[_Residual(width) for _ in range(blocks)],
        nn.ReLU(), nn.Conv2d(width, outputs, 1),
    )  # fmt: skip


def image_glow(
    shape: Shape, levels: int, steps: int, width: int, generator: torch.Generator | None = None
) -> FlowDensity:
    """Return a Glow: on each level, squeezing, steps of normalisation, invertible 1x1 convolution and coupling.

    Parameters
    ----------
    shape : (int, int, int)
        ``(C, H, W)`` of the images.
    levels, steps : int
        Numbers of levels, and of steps on each; after each level but the last, half of the channels are latents.
    width : int
        Channels of the networks of the couplings.
    generator : torch.Generator, optional
        Generator of the initial weights.

    Raises
    ------
    UsageError
        If the images cannot be halved once for each level.

    References
    ----------
    Kingma and Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, NeurIPS 2018; all latents are standard
    normal here, where Glow learns the mean and scale of the earlier ones from the later ones.
    """
    check_halved(shape, levels, "levels")

    def level(shape: Shape, left: int) -> list[nn.Module]:
        channels, *size = shape = squeezed(shape)
        flows: list[nn.Module] = [Squeeze()]
        for _ in range(steps):
            matrix = InvertibleLinear(channels, torch.default_generator)
            flows += [ActNorm(channels), matrix, HalfCoupling(channels, small_network(width))]
        if left == 1:
            return [*flows, Flatten(shape)]
        rest = level((channels - channels // 2, *size), left - 1)  # type: ignore[arg-type]
        return [*flows, FactorOut(shape, Chain(rest))]

    with seeded(generator):
        return FlowDensity(math.prod(shape), level(shape, levels))


def image_realnvp(
    shape: Shape, scales: int, width: int, blocks: int, generator: torch.Generator | None = None
) -> FlowDensity:
    """Return a RealNVP: on each scale, three couplings of checkerboards, squeezing, and three of channels.

    Parameters
    ----------
    shape : (int, int, int)
        ``(C, H, W)`` of the images.
    scales : int
        Number of scales; the last one has four couplings of checkerboards. After the others, half of the channels are
        latents.
    width, blocks : int
        Channels and residual blocks of the networks of the couplings.
    generator : torch.Generator, optional
        Generator of the initial weights.

    Raises
    ------
    UsageError
        If the images cannot be halved after each scale but the last.

    References
    ----------
    Dinh et al., Density Estimation Using Real NVP, ICLR 2017. Couplings are preceded by the normalisations of Glow,
    instead of followed by batch normalisation, with which the density of an image in training depends on the batch;
    their networks have no normalisation, and widths do not grow with the scales.
    """
    check_halved(shape, scales - 1, "scales")
    network = residual_network(width, blocks)

    def normalised(channels: int, couplings: Iterable[nn.Module]) -> list[nn.Module]:
        return [flow for coupling in couplings for flow in (ActNorm(channels), coupling)]

    def scale(shape: Shape, left: int) -> list[nn.Module]:
        fields = (
            CheckerboardCoupling(shape, network, bool(turn % 2)) for turn in range(4 if left == 1 else 3)
        )
        flows = normalised(shape[0], fields)
        if left == 1:
            return [*flows, Flatten(shape)]
        channels, *size = shape = squeezed(shape)
        halves = (HalfCoupling(channels, network, bool(turn % 2)) for turn in range(3))
        flows += [Squeeze(), *normalised(channels, halves)]
        rest = scale((channels - channels // 2, *size), left - 1)  # type: ignore[arg-type]
        return [*flows, FactorOut(shape, Chain(rest))]

    with seeded(generator):
        return FlowDensity(math.prod(shape), scale(shape, scales))


def image_residual_flow(
    shape: Shape,
    levels: int,
    blocks: int,
    width: int,
    bound: float = 0.9,
    terms: int = 5,
    roulette: bool = True,
    generator: torch.Generator | None = None,
) -> FlowDensity:
    """Return an invertible residual network: on each level, squeezing, and residual blocks after normalisations.

    Parameters
    ----------
    shape : (int, int, int)
        ``(C, H, W)`` of the images.
    levels, blocks : int
        Numbers of levels, and of blocks on each.
    width, bound, terms, roulette
        See :func:`featood.flows.residual.residual_convolutions`.
    generator : torch.Generator, optional
        Generator of the initial weights.

    Raises
    ------
    UsageError
        If the images cannot be halved once for each level.

    References
    ----------
    Behrmann et al., Invertible Residual Networks, ICML 2019.
    """
    check_halved(shape, levels, "levels")
    size = math.prod(shape)
    flows: list[nn.Module] = []
    with seeded(generator):
        for _ in range(levels):
            shape = squeezed(shape)
            flows.append(Squeeze())
            for _ in range(blocks):
                flows += [
                    ActNorm(shape[0]),
                    residual_convolutions(shape, width, bound, terms, roulette),
                ]
    return FlowDensity(size, [*flows, Flatten(shape)])
