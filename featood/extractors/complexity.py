"""Input complexity: the length of an image after lossless compression."""

from __future__ import annotations

__all__ = ["COMPRESSORS", "Complexity", "available_compressors", "compressed_bits"]

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor, nn

from featood.errors import UsageError

if TYPE_CHECKING:
    from featood.extractors.extras import Setting

COMPRESSORS: Mapping[str, Mapping[str, Any]] = {
    "png": {"format": "PNG", "optimize": True},
    "webp": {"format": "WEBP", "lossless": True, "quality": 100, "method": 6},
    "jpeg2000": {"format": "JPEG2000", "irreversible": False, "no_jp2": True},
}
"""Options of Pillow for the smallest lossless files, by name; JPEG 2000 without its container."""
CODECS = {"png": "zlib", "webp": "webp", "jpeg2000": "jpg_2000"}


def available_compressors() -> tuple[str, ...]:
    """Return the names of the compressors with which Pillow was built."""
    return tuple(name for name in COMPRESSORS if features.check(CODECS[name]))


def compressed_bits(image: np.ndarray, compressors: Sequence[str]) -> int:
    """Return the number of bits of the smallest of the files of an image, headers included.

    Parameters
    ----------
    image : array
        uint8 ``[H, W, C]`` with one or three channels.
    compressors : sequence of str
        Keys of `COMPRESSORS`.
    """
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    sizes = []
    for name in compressors:
        file = io.BytesIO()
        picture.save(file, **COMPRESSORS[name])
        sizes.append(file.tell())
    return 8 * min(sizes)


@dataclasses.dataclass(frozen=True)
class Complexity:
    """The column ``complexity`` ``[B, 1]``: bits of the network's input as 8-bit pixels, for ``input-complexity``.

    These are the pixels after resizing and cropping. The authors take the shortest of PNG, JPEG 2000 and FLIF files;
    here it is the shortest of those that Pillow can write, with WebP in place of FLIF.

    Parameters
    ----------
    compressors : sequence of str
        Keys of `COMPRESSORS`; by default all that this installation has.

    References
    ----------
    Serra et al., Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models, ICLR 2020.
    """

    kind: ClassVar[str] = "complexity"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    compressors: Sequence[str] = dataclasses.field(default_factory=available_compressors)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compressors", tuple(self.compressors))
        if missing := [name for name in self.compressors if name not in available_compressors()]:
            raise UsageError(
                f"the column {self.kind} was made with {', '.join(missing)}, which this installation of Pillow cannot "
                "write; install Pillow with it, or extract again"
            )

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column of a batch."""
        if setting.transform is None:
            raise UsageError(f"the column {self.kind} needs a known transform of the inputs")
        pixels = (255 * setting.transform.scaled(inputs)).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        bits = [compressed_bits(image, self.compressors) for image in pixels.cpu().numpy()]
        return {self.kind: torch.tensor(bits, dtype=torch.float32)[:, None]}
