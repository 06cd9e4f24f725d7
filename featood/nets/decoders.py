"""Decoders: networks from a code to an image."""

from __future__ import annotations

__all__ = ["DECODERS", "ConvDecoder", "ResNetDecoder", "UpsamplingDecoder"]

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import he_normal_


def _side(shape: tuple[int, int, int], name: str, factor: int, least: int) -> int:
    """Return the side of the images ``(C, H, W)`` divided by a factor."""
    _, height, width = shape
    if height != width or height % factor or height < least:
        raise UsageError(
            f"the decoder {name} makes square images of {least} pixels or more, a multiple of {factor}, not "
            f"{height} x {width}; take another --image-size"
        )
    return height // factor


class ConvDecoder(nn.Module):
    """Two linear layers without an activation, six 2x2 transposed convolutions of 100 channels, and a 1x1 convolution.

    The first four transposed convolutions widen a map by one pixel each, the last two double its side.

    Parameters
    ----------
    latent
        Size of the code.
    shape
        ``(C, H, W)`` of the images.

    Raises
    ------
    UsageError
        If it cannot make images of this shape.

    References
    ----------
    The autoencoder for digits of https://github.com/BGU-CS-VIL/vmdls
    """

    def __init__(self, latent: int, shape: tuple[int, int, int], width: int = 100) -> None:
        super().__init__()
        side = _side(shape, "conv", 4, 20) - 4
        layers: list[nn.Module] = [
            nn.Linear(latent, 500),
            nn.Linear(500, width * side * side),
            nn.Unflatten(1, (width, side, side)),
        ]
        for stride in (1, 1, 1, 1, 2, 2):
            layers += [nn.ConvTranspose2d(width, width, 2, stride), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, shape[0], 1))

    def forward(self, code: Float[Tensor, "B L"]) -> Float[Tensor, "B C H W"]:
        """Map codes ``[B, latent]`` to images."""
        return self.layers(code)


class _Block(nn.Module):
    def __init__(self, in_channels: int, width: int, scale: int) -> None:
        super().__init__()
        grow = nn.Upsample(scale_factor=scale) if scale > 1 else nn.Identity()
        self.main = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False), nn.BatchNorm2d(in_channels), nn.ReLU(),
            grow, nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if scale > 1 or in_channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width), grow
            )
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        return self.relu(self.main(x) + self.shortcut(x))


class ResNetDecoder(nn.Module):
    """The stages of a ResNet-18 in reverse: a linear layer, eight residual blocks, of which three double the side.

    Parameters
    ----------
    latent, shape
        As for :class:`ConvDecoder`.

    Raises
    ------
    UsageError
        If it cannot make images of this shape.
    """

    def __init__(self, latent: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        side = _side(shape, "resnet18", 8, 8)
        layers: list[nn.Module] = [
            nn.Linear(latent, 512 * side * side), nn.ReLU(), nn.Unflatten(1, (512, side, side)),
        ]  # fmt: skip
        previous = 512
        for width, scale in ((256, 2), (128, 2), (64, 2), (64, 1)):
            layers += [_Block(previous, previous, 1), _Block(previous, width, scale)]
            previous = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(previous, shape[0], 3, padding=1))
        he_normal_(self)

    def forward(self, code: Float[Tensor, "B L"]) -> Float[Tensor, "B C H W"]:
        """Map codes ``[B, latent]`` to images."""
        return self.layers(code)


class _UpsamplingBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        grow = nn.Upsample(scale_factor=2)
        self.main = nn.Sequential(
            nn.ReLU(), grow, nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )  # fmt: skip
        self.shortcut = grow

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C _ _"]:
        return self.main(x) + self.shortcut(x)


class UpsamplingDecoder(nn.Module):
    """A linear layer to the smallest map, and a residual block for each doubling of its side.

    There is no normalisation, so the image of a code does not depend on others.

    Parameters
    ----------
    latent, shape
        As for :class:`ConvDecoder`; the side is halved as often as it is even and above 7.
    width
        Channels of the maps.

    References
    ----------
    The generator of Grathwohl et al., No MCMC for Me, ICLR 2021, without its batch normalisation, and with 64 channels.
    """

    def __init__(self, latent: int, shape: tuple[int, int, int], width: int = 64) -> None:
        super().__init__()
        _side(shape, "upsampling", 1, 4)
        channels, side, _ = shape
        doublings = 0
        while side % 2 == 0 and side > 7:
            side, doublings = side // 2, doublings + 1
        self.layers = nn.Sequential(
            nn.Linear(latent, width * side * side), nn.Unflatten(1, (width, side, side)),
            *[_UpsamplingBlock(width) for _ in range(doublings)],
            nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, code: Float[Tensor, "B L"]) -> Float[Tensor, "B C H W"]:
        """Map codes ``[B, latent]`` to images."""
        return self.layers(code)


DECODERS: Mapping[str, Callable[[int, tuple[int, int, int]], nn.Module]] = {
    "conv": ConvDecoder,
    "resnet18": ResNetDecoder,
    "upsampling": UpsamplingDecoder,
}
"""By name."""
