"""The image transform as plain values, which are hashed exactly as applied."""

from __future__ import annotations

__all__ = ["FITS", "IMAGENET", "INTERPOLATIONS", "Transform", "offset", "resized"]

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from featood.data import ImageSet, InputSet
from featood.data.images.reading import MAX_PIXELS
from featood.errors import DataError, UsageError

INTERPOLATIONS = {
    name: getattr(Image.Resampling, name.upper())
    for name in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
}
FITS = ("short", "cover", "contain", "stretch")


@dataclasses.dataclass(frozen=True)
class Transform:
    """Transform from decoded image to network input: resize, crop or pad around the centre, scale to [0, 1], normalise.

    On PIL images, pixels and tensors equal those of timm's evaluation transforms and of torchvision's presets for
    classification. Their rules are implemented here, so that results stay the same if those libraries change.

    Parameters
    ----------
    channels : int
        1 (grey) or 3 (RGB); other images are converted.
    height, width : int
        Size of the input in pixels.
    resize : int or (int, int)
        Target of `fit`: a number of pixels for ``short``, otherwise a height and a width. 0 resizes directly to
        ``height x width``, ignoring the aspect ratio.
    mean, std : tuple of float
        One value per channel, for pixels in [0, 1].
    interpolation : str
        A key of ``INTERPOLATIONS``, with anti-aliasing.
    fit : str
        See :func:`resized`. ``contain`` pads with the mean colour, the others with black.
    crop_pct : float, optional
        Published ratio of the crop to the resized side. It is used only by :meth:`at_size`, so it is not part of the
        JSON form.

    Raises
    ------
    UsageError
        If a value is invalid.
    """

    takes: ClassVar[str] = "images"
    channels: int
    height: int
    width: int
    resize: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    fit: str = "short"
    crop_pct: float | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UsageError(
                f"images are read as grey (1 channel) or RGB (3), but the network needs {self.channels}"
            )
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) == 1:
                values = values * self.channels
            if len(values) != self.channels:
                raise UsageError(
                    f"{name} has {len(values)} values, but the network needs {self.channels} channels"
                )
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise UsageError(f"std must be positive, not {min(self.std)}")
        if self.height < 1 or self.width < 1:
            raise UsageError(f"inputs must have at least 1 x 1 pixel, not {self.height} x {self.width}")
        for name, known in (("interpolation", INTERPOLATIONS), ("fit", FITS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)}")
        if not isinstance(self.resize, int):
            object.__setattr__(self, "resize", tuple(self.resize))
        sides = (self.resize,) if isinstance(self.resize, int) else self.resize
        if self.resize != 0 and (len(sides) != (1 if self.fit == "short" else 2) or min(sides) < 1):
            needed = "a number" if self.fit == "short" else "a height and a width"
            raise UsageError(f"with fit '{self.fit}', resize must be {needed} in pixels, not {self.resize}")

    def __str__(self) -> str:
        if self.resize == 0:
            how = "resized"
        elif isinstance(self.resize, int):
            how = f"short side {self.resize}, centre crop"
        else:
            how = f"{self.fit} {self.resize[0]} x {self.resize[1]}, centre crop"
        mean, std = (",".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        size = f"{self.height} x {self.width} x {self.channels}"
        return f"{how} to {size}, {self.interpolation}, mean {mean}, std {std}"

    def as_json(self) -> dict[str, Any]:
        """Return the plain JSON form, without `fit` if `resize` is 0, where it has no effect."""
        body = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        del body["crop_pct"]
        if self.resize == 0:
            del body["fit"]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Transform:
        """Restore a transform from the output of :meth:`as_json`.

        Raises
        ------
        UsageError
            If fields are missing, unknown or invalid.
        """
        try:
            return cls(**body)
        except TypeError as error:
            raise UsageError(f"{dict(body)} is not a transform: {error}") from None

    def like(self, body: Mapping[str, Any]) -> Transform:
        """Return the transform of a JSON form, which contains all of it."""
        return self.from_json(body)

    def at_size(self, size: int) -> Transform:
        """Return the transform for square inputs of another size, keeping the ratio of crop to resized image.

        The resized sides are ``floor(size / crop_pct)`` as in timm; without a `crop_pct`, the published sides are
        scaled and rounded down.
        """

        def scaled(side: int, before: int) -> int:
            return max(1, math.floor(size / self.crop_pct) if self.crop_pct else size * side // before)

        if isinstance(self.resize, int):
            resize: Any = scaled(self.resize, self.height) if self.resize else 0
        else:
            resize = (scaled(self.resize[0], self.height), scaled(self.resize[1], self.width))
        return dataclasses.replace(self, height=size, width=size, resize=resize)

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """Convert and resize one image, uint8 ``[H, W]`` or ``[H, W, 3]``, to uint8 ``[height, width, channels]``.

        Raises
        ------
        DataError
            If the resized image would have no pixels, or too many for memory.
        """
        grey = image.ndim == 2 or image.shape[2] == 1
        target = (self.height, self.width)
        size = resized(image.shape[:2], self.resize, self.fit) if self.resize else target
        if image.shape[:2] == size == target and grey == (self.channels == 1):
            return image.reshape(*target, self.channels)
        picture = Image.fromarray(image[:, :, 0] if grey and image.ndim == 3 else image)
        mode = "L" if self.channels == 1 else "RGB"
        picture = picture if picture.mode == mode else picture.convert(mode)  # which would copy
        picture = picture.resize(size[::-1], INTERPOLATIONS[self.interpolation])
        if size != target:
            picture = self._centred(picture)
        return np.asarray(picture).reshape(*target, self.channels)

    def _centred(self, picture: Image.Image) -> Image.Image:
        fill = tuple(round(255 * value) if self.fit == "contain" else 0 for value in self.mean)
        canvas = Image.new(picture.mode, (self.width, self.height), fill if self.channels > 1 else fill[0])
        left, top = offset(picture.width, self.width), offset(picture.height, self.height)
        canvas.paste(picture, (-left, -top))
        return canvas

    def example(self) -> Tensor:
        """Return two inputs ``[2, channels, height, width]``, with which a network is traced."""
        example = torch.zeros(2, *self.shape)
        example += torch.linspace(-1, 1, example[0].numel()).view_as(example[0])
        return example

    def read(self, inputs: ImageSet, row: int) -> np.ndarray:
        """Read one image of a set, and convert and resize it as :meth:`pixels`."""
        return self.pixels(inputs.read(row))

    def stack(self, rows: Sequence[np.ndarray | None]) -> np.ndarray:
        """Join images to uint8 ``[B, height, width, channels]``; missing ones are zero."""
        # bytes, because a worker needs longer to send floats than to compute them
        pixels = np.zeros((len(rows), self.height, self.width, self.channels), np.uint8)
        for place, row in enumerate(rows):
            if row is not None:
                pixels[place] = row
        return pixels

    def counts(self, inputs: InputSet) -> dict[str, int]:
        """Return nothing: every image is cropped in the same way."""
        return {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return self.channels, self.height, self.width

    def normalise(self, pixels: np.ndarray) -> Tensor:
        """Convert uint8 ``[B, height, width, channels]`` to normalised float32 ``[B, channels, height, width]``."""
        count, height, width, channels = pixels.shape
        # a row of the image at a time, as loops over three channels are slow
        rows = torch.from_numpy(np.ascontiguousarray(pixels)).view(-1, width * channels).float()
        mean, std = (rows.new_tensor(values).repeat(width) for values in (self.mean, self.std))
        rows.div_(255).sub_(mean).div_(std)
        return rows.view(count, height, width, channels).permute(0, 3, 1, 2)

    def normalised(self, scaled: Tensor) -> Tensor:
        """Normalise pixels in [0, 1], ``[B, channels, height, width]``."""
        mean, std = self._colours(scaled)
        return (scaled - mean) / std

    def scaled(self, inputs: Tensor) -> Tensor:
        """Return the pixels in [0, 1] of normalised inputs ``[B, channels, height, width]``."""
        mean, std = self._colours(inputs)
        return inputs * std + mean

    def _colours(self, images: Tensor) -> list[Tensor]:
        return [images.new_tensor(values)[:, None, None] for values in (self.mean, self.std)]

    def __call__(self, images: list[np.ndarray]) -> Tensor:
        """Transform a batch of decoded images."""
        return self.normalise(np.stack([self.pixels(image) for image in images]))


def resized(size: tuple[int, ...], to: int | tuple[int, int], fit: str) -> tuple[int, int]:
    """Return the height and width of a resized image.

    Sides are rounded as in torchvision's ``Resize`` (``short``, ``stretch``) and timm's ``ResizeKeepRatio`` (``cover``,
    ``contain``).

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    to : int or (int, int)
        Target size.
    fit : str
        ``short``: the short side becomes `to`, and the long side is rounded down. ``cover``: the smallest image that
        covers `to`; ``contain``: the largest within `to`; both with rounded sides. ``stretch``: `to`, ignoring the
        aspect ratio.

    Raises
    ------
    DataError
        If the result would have no pixels, or too many for memory.
    """
    height, width = size
    if isinstance(to, int):
        long = int(to * max(size) / min(size))
        done = (long, to) if width <= height else (to, long)
    elif fit == "stretch":
        done = to
    else:
        ratio = (min if fit == "cover" else max)(height / to[0], width / to[1])
        done = (round(height / ratio), round(width / ratio))
    if min(done) < 1 or done[0] * done[1] > MAX_PIXELS:
        raise DataError(
            f"an image of {height} x {width} pixels would be resized to {done[0]} x {done[1]}; "
            "remove it, or crop it"
        )
    return done


def offset(have: int, wanted: int) -> int:
    """Return the start of a centred crop; negative if padding is needed."""
    return round((have - wanted) / 2) if have >= wanted else -((wanted - have) // 2)


IMAGENET = Transform(3, 224, 224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
"""The usual ImageNet evaluation transform."""
