"""The image transform as plain values: what is hashed is exactly what is applied."""

from __future__ import annotations

__all__ = ["IMAGENET", "Transform"]

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from featood.errors import UsageError

INTERPOLATIONS = {
    name: getattr(Image.Resampling, name.upper()) for name in ("nearest", "bilinear", "bicubic", "lanczos")
}


@dataclasses.dataclass(frozen=True)
class Transform:
    """Decoded image to network input: resize, centre crop, scale to [0, 1], normalise.

    Parameters
    ----------
    channels : int
        1 (grey) or 3 (RGB); images of the other kind are converted.
    height, width : int
        Size of the input in pixels.
    resize : int
        Resize the short side to this many pixels, then crop the centre; 0 resizes straight to
        ``height x width``, whatever the aspect ratio.
    mean, std : tuple of float
        One value a channel, on [0, 1].
    interpolation : str
        ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``, with anti-aliasing.
    """

    channels: int
    height: int
    width: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) == 1:
                values = values * self.channels
            if len(values) != self.channels:
                raise UsageError(
                    f"{name} has {len(values)} values, but the network takes {self.channels} channels"
                )
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise UsageError(f"std must be positive, not {min(self.std)}")
        if self.channels not in (1, 3) or self.height < 1 or self.width < 1:
            raise UsageError(f"images are 1 or 3 channels of at least 1 x 1 pixel, not {self}")
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f"interpolation is one of {', '.join(INTERPOLATIONS)}, not {self.interpolation}")

    def as_json(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Transform:
        """Rebuild from :meth:`as_json`."""
        return cls(**{**body, "mean": tuple(body["mean"]), "std": tuple(body["std"])})

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """Convert and resize one image, uint8 ``[H, W]`` or ``[H, W, 3]``, to uint8 ``[height, width, channels]``."""
        grey = image.ndim == 2 or image.shape[2] == 1
        ready = image.shape[:2] == (self.height, self.width) and self.resize in (0, min(image.shape[:2]))
        if ready and grey == (self.channels == 1):
            return image.reshape(self.height, self.width, self.channels)
        picture = Image.fromarray(image[:, :, 0] if grey and image.ndim == 3 else image)
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if not ready:
            picture = self._resized(picture)
        return np.asarray(picture).reshape(self.height, self.width, self.channels)

    def _resized(self, picture: Image.Image) -> Image.Image:
        filter_ = INTERPOLATIONS[self.interpolation]
        if not self.resize:
            return picture.resize((self.width, self.height), filter_)
        # never smaller than the crop, whatever was asked for
        short = max(self.resize, self.height, self.width)
        scale = short / min(picture.size)
        width, height = (max(short, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), filter_)
        left, top = (width - self.width) // 2, (height - self.height) // 2
        return picture.crop((left, top, left + self.width, top + self.height))

    def normalise(self, pixels: np.ndarray) -> Tensor:
        """Turn uint8 ``[B, height, width, channels]`` into normalised float32 ``[B, channels, height, width]``."""
        scaled = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div_(255)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return scaled.sub_(mean).div_(std)

    def __call__(self, images: list[np.ndarray]) -> Tensor:
        """Transform a batch of decoded images."""
        return self.normalise(np.stack([self.pixels(image) for image in images]))


IMAGENET = Transform(3, 224, 224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
"""The usual ImageNet evaluation transform."""
