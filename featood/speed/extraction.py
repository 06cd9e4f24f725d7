"""Speed of extracting features, beside the network's bare forward pass and bare decoding in the same run."""

from __future__ import annotations

__all__ = ["BACKBONES", "Extracting", "measure_extraction"]

import dataclasses
import functools
import io
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from featood.cache import FeatureCache
from featood.data import ImageSet, open_images, packed_set
from featood.data.images.generated import photo_patches
from featood.extractors.backbones import RANDOM, Backbone, resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.forward import PRECISIONS, ready
from featood.extractors.inputs import image_transform
from featood.extractors.recipe import choose_transform
from featood.extractors.transform import INTERPOLATIONS, Transform, offset, resized
from featood.files import atomic_write, temporary_folder
from featood.numerics.devices import pick_device
from featood.speed.timing import in_turn, seconds, timed

BACKBONES = ("cifar-resnet20", "resnet18")
"""Networks that are measured by default."""
PASS = 4.0
"""Seconds of the bare forward pass over all images, if their number is not given."""
ARRAY_BYTES, FILES, LEAST_BATCHES = 1 << 31, 2048, 4
"""Largest size of the array and number of files, where a fast device could process more in that time; but at least so
many batches."""
PHOTOS = 32
"""Number of different photographs among the files."""
LARGEST = 427
"""Side of the largest square in the photographs, in pixels."""


@dataclasses.dataclass(frozen=True)
class Extracting:
    """How to extract."""

    batch_size: int = 64
    """Images per forward pass."""
    batches: int = 0
    """Number of batches; 0 for as many as take a few seconds."""
    precision: str = "float32"
    """Precision of the network."""
    device: str = "auto"
    """Device of the network."""


def measure_extraction(name: str, how: Extracting, repeat: int) -> list[dict[str, Any]]:
    """Measure how fast the features of a network with random weights are extracted into a cache.

    The images are once an array of the network's input size, which is neither decoded nor resized, and once JPEG files
    of photographs, which one other process decodes. The floor is the slower of the bare forward pass on batches that
    are ready on the device, and of Pillow alone, which opens, decodes and resizes the files in one process.

    Parameters
    ----------
    name : str
        Name of the network; see :func:`featood.extractors.backbones.resolve_backbone`.
    how : Extracting
        Batches, precision and device.
    repeat : int
        Number of rounds, in each of which everything is measured.

    Returns
    -------
    list of dict
        For each kind of images, images per second of the extraction, of the forward pass and of decoding, and the time
        of the extraction as a multiple of its floor; medians over the rounds. ``setup`` are the seconds before the
        first batch, in which the network is analysed; they do not depend on the number of images, and are not part of
        the others.
    """
    backbone, device = resolve_backbone(name, RANDOM, num_classes=10), pick_device(how.device)
    known = None if backbone.transform is None else image_transform(backbone.transform, name)
    size = known.height if known is not None else 32
    shape = (how.batch_size, size, size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    transform = image_transform(choose_transform(backbone, packed_set(pixels), [0.5], [0.5])[0], name)
    with ready(backbone.module, device), temporary_folder() as folder:
        forward = _forward(backbone, transform.normalise(pixels).to(device), how.precision)
        forward(1)
        enough = round(PASS / seconds(lambda: forward(1))[0])
        largest = (ARRAY_BYTES // pixels.nbytes, FILES // how.batch_size)
        array, jpeg = (how.batches or max(LEAST_BATCHES, min(enough, most)) for most in largest)
        packed = packed_set(np.resize(pixels, (array * how.batch_size, *shape[1:])), name="array")
        files = _files(Path(folder) / "jpeg", jpeg * how.batch_size, min(5 * size // 3, LARGEST))
        found = []
        for images, applied, batches in (
            (packed, dataclasses.replace(transform, resize=0), array),
            (files, transform, jpeg),
        ):
            setups: list[float] = []
            runs: dict[str, Callable[[], float]] = {
                "extract": functools.partial(_extract, backbone, images, applied, how, setups),
                "forward": timed(functools.partial(forward, batches)),
            }
            if images.root is not None:
                runs["decode"] = timed(functools.partial(_decode, images, transform))
            found.append(_row(name, images, in_turn(runs, repeat), median(setups)))
    return found


def _row(name: str, images: ImageSet, rounds: list[dict[str, float]], setup: float) -> dict[str, Any]:
    speeds = {f"{what}/s": len(images) / median(times[what] for times in rounds) for what in rounds[0]}
    floors = [max(took for what, took in times.items() if what != "extract") for times in rounds]
    ratio = median(times["extract"] / floor for times, floor in zip(rounds, floors, strict=True))
    row = {"backbone": name, "images": images.name, "count": len(images), "setup s": setup}
    return row | {"decode/s": None} | speeds | {"extract/floor": ratio}


def _extract(
    backbone: Backbone, images: ImageSet, transform: Transform, how: Extracting, setups: list[float]
) -> float:
    """Extract into a new cache; return the seconds from the first batch, and add those before it to `setups`."""
    options = ExtractOptions(
        batch_size=how.batch_size,
        precision=how.precision,
        device=how.device,
        workers=0 if images.root is None else 1,
    )
    times: list[float] = [time.perf_counter()]
    with temporary_folder() as folder:
        progress = lambda done, total: times.append(time.perf_counter())  # noqa: E731
        extract(backbone, images, transform, FeatureCache(folder), options, progress=progress)
        took = time.perf_counter() - times[1]
    setups.append(times[1] - times[0])
    return took


def _forward(backbone: Backbone, inputs: Tensor, precision: str) -> Callable[[int], None]:
    """Return a function of a number of forward passes."""
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    kind, lower = inputs.device.type, PRECISIONS[precision]

    def run(passes: int) -> None:
        with torch.inference_mode(), torch.autocast(kind, lower or torch.bfloat16, enabled=lower is not None):
            for _ in range(passes):
                outputs = backbone.module(inputs)
        float(outputs.sum())  # waits for the device

    return run


def _files(folder: Path, rows: int, size: int) -> ImageSet:
    """Write JPEG files of photographs, of which some are alike."""
    photos = photo_patches("train", n=min(PHOTOS, rows), size=size)
    contents = [io.BytesIO() for _ in range(len(photos))]
    for number, content in enumerate(contents):
        Image.fromarray(photos.read(number)).save(content, "JPEG", quality=90)
    for row in range(rows):
        atomic_write(folder / f"{row:06}.jpg", contents[row % len(contents)].getbuffer())
    return dataclasses.replace(open_images(str(folder)), name="jpeg")


def _decode(images: ImageSet, transform: Transform) -> None:
    """Open, decode and resize all files with Pillow alone."""
    height, width = transform.height, transform.width
    assert images.root is not None
    for name in images.ids:
        with Image.open(images.root / name) as image:
            size = (
                resized(image.size[::-1], transform.resize, transform.fit)
                if transform.resize
                else (height, width)
            )
            picture = image.convert("RGB").resize(size[::-1], INTERPOLATIONS[transform.interpolation])
        left, top = offset(size[1], width), offset(size[0], height)
        np.asarray(picture.crop((left, top, left + width, top + height)))
