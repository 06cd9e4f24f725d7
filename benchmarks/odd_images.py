"""Generation of unusual images: modes, bit depths, orientations, sizes and formats."""

from __future__ import annotations

__all__ = ["write_deep_png", "write_odd_images"]

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, features


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Make an image of waves with some noise, uint8 ``[height, width, 3]``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None] / 17
    waves = 96 + 64 * np.sin(x + np.arange(3)) + 64 * np.cos(y * np.arange(1, 4))
    return np.clip(waves + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


def write_deep_png(path: Path, values: np.ndarray) -> None:
    """Write uint16 ``[H, W, C]`` as a 16-bit PNG of grey and alpha, RGB, or RGBA, which Pillow cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def write_odd_images(folder: Path, huge: int = 4000) -> list[Path]:
    """Write all images to a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    huge : int
        Width of the largest image.
    """
    rgb = scene(97, 131)
    colour = Image.fromarray(rgb)
    grey = colour.convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = rgb.astype(np.uint16) * 257
    write_deep_png(folder / "rgb16.png", deep)
    write_deep_png(folder / "rgb12in16.png", deep >> 4)
    write_deep_png(folder / "rgba16.png", np.dstack([deep, deep[..., :1]]))
    write_deep_png(folder / "grey_alpha16.png", deep[..., :2])
    pictures = {
        "tall.png": Image.fromarray(scene(401, 90)),
        "wide.png": Image.fromarray(scene(75, 500)),
        "tiny.png": Image.fromarray(scene(3, 5)),
        "dot.png": Image.fromarray(scene(1, 1)),
        "line.png": Image.fromarray(scene(1, 160)),
        "huge.jpg": Image.fromarray(scene(huge * 3 // 4, huge)),
        "grey.png": grey,
        "bits.png": grey.convert("1"),
        "palette.png": colour.quantize(64),
        "cmyk.jpg": colour.convert("CMYK"),
        "ycbcr.tif": colour.convert("YCbCr"),
        "lab.tif": colour.convert("LAB"),
        "alpha.png": Image.fromarray(np.dstack([rgb, rgb[..., 0]])),
        "grey_alpha.png": Image.fromarray(rgb[..., :2].copy()),
        "grey16.png": Image.fromarray(deep[..., 0].copy()),
        "grey12in16.png": Image.fromarray(deep[..., 0] >> 4),
        "grey.webp": grey,
        "colour.tif": colour,
        "colour.bmp": colour,
    }
    for feature, name in (("jpg_2000", "colour.jp2"), ("avif", "colour.avif")):
        if feature in {*features.modules, *features.codecs} and features.check(feature):
            pictures[name] = colour
    for name, picture in pictures.items():
        picture.save(folder / name)
    colour.quantize(16).save(folder / "palette_alpha.png", transparency=bytes(range(0, 256, 16)))
    colour.quantize(16).save(folder / "palette_hole.png", transparency=3)
    colour.save(folder / "turned.jpg", exif=turned)
    colour.save(folder / "turned.webp", exif=turned, lossless=True)
    frames = [Image.fromarray(scene(60, 80, seed)) for seed in range(3)]
    frames[0].save(folder / "frames.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "two.jpg", format="MPO", save_all=True, append_images=frames[1:])
    return sorted(folder.iterdir())
