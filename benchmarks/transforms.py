"""Agreement of image transforms with timm and torchvision, for every transform that they publish with weights.

    python benchmarks/transforms.py --images path/to/photos

On real images and on unusual ones made by the script, pixels and normalised inputs are compared with the transforms of
the libraries, and decoded files with their loaders. The exit code is 1 if a difference is unexplained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import save, show
from odd_images import write_odd_images
from PIL import Image
from torch import Tensor

from featood.data.images.reading import Decoding, read_image
from featood.data.suffixes import IMAGE_SUFFIXES
from featood.errors import DataError, UsageError
from featood.extractors.presets import timm_transform, torchvision_transform
from featood.extractors.transform import Transform
from featood.speed.environment import environment


class Preset(NamedTuple):
    """A transform shared by some weights: featood's, the library's, and the library's without normalisation."""

    library: str
    example: str
    weights: int
    ours: Transform | None
    normalised: Callable[[Image.Image], Tensor]
    pixels: Callable[[Image.Image], Tensor]
    note: str = ""


def timm_presets() -> Iterator[Preset]:
    """Yield each distinct evaluation transform of timm's pretrained configurations."""
    from featood.extractors.vision import timm

    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for name in timm.list_pretrained():
        published = timm.get_pretrained_cfg(name).to_dict()
        config = timm.data.resolve_data_config({}, pretrained_cfg=published)
        found.setdefault(json.dumps(config), (config, []))[1].append(name)
    for config, names in found.values():
        ours, note = attempt(lambda config=config: timm_transform(config))
        make = timm.data.create_transform
        yield Preset(
            "timm", names[0], len(names), ours, make(**config), make(**config, normalize=False), note
        )


def torchvision_presets() -> Iterator[Preset]:
    """Yield each distinct transform of torchvision's weights."""
    from featood.extractors.vision import torchvision

    found: dict[str, list[Any]] = {}
    for name in torchvision.models.list_models():
        for weights in torchvision.models.get_model_weights(name):
            found.setdefault(repr(weights.transforms()), []).append(weights)
    for members in found.values():
        theirs = members[0].transforms()
        ours, note = attempt(lambda first=members[0]: torchvision_transform(first))
        yield Preset("torchvision", str(members[0]), len(members), ours, theirs, unnormalised(theirs), note)


def unnormalised(preset: Any) -> Callable[[Image.Image], Tensor]:
    """Return a torchvision preset for classification without normalisation, with pixels from 0 to 255."""

    def pixels(picture: Image.Image) -> Tensor:
        plain = type(preset)(
            crop_size=preset.crop_size[0],
            resize_size=preset.resize_size[0],
            interpolation=preset.interpolation,
            antialias=preset.antialias,
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )
        return (plain(picture) * 255).round()

    return pixels


def attempt(make: Callable[[], Transform]) -> tuple[Transform | None, str]:
    """Return a transform, or None and the reason."""
    try:
        return make(), ""
    except UsageError as error:
        return None, str(error)


def compare(preset: Preset, pictures: dict[str, Image.Image]) -> dict[str, Any]:
    """Compare featood's and the library's transform on all images."""
    row = {"library": preset.library, "example": preset.example, "weights": preset.weights}
    if preset.ours is None:
        return {**row, "images": 0, "pixels": None, "normalised": None, "note": preset.note}
    worst, normalised, compared, notes = 0.0, 0.0, 0, []
    for name, picture in pictures.items():
        try:
            pixels = preset.ours.pixels(np.asarray(picture))[None].copy()
        except DataError as error:  # too large for memory, or empty after resizing
            notes.append(f"{name} refused: {error}")
            continue
        difference = torch.from_numpy(pixels)[0].permute(2, 0, 1).float() - preset.pixels(picture)
        worst = max(worst, difference.abs().max().item())
        difference = preset.ours.normalise(pixels)[0] - preset.normalised(picture)
        normalised = max(normalised, difference.abs().max().item())
        compared += 1
    return {
        **row,
        "images": compared,
        "pixels": worst,
        "normalised": normalised,
        "note": "; ".join(notes),
    }


def decoded(path: Path) -> dict[str, Any]:
    """Compare a decoded file with the loaders of timm and torchvision, with and without the EXIF orientation."""
    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("ignore")  # about palettes with alpha
        theirs = np.asarray(image.convert("RGB")).astype(int)

    def difference(decoding: Decoding) -> int | None:
        pixels = np.asarray(Image.fromarray(read_image(path, decoding)).convert("RGB"))
        return int(np.abs(pixels - theirs).max()) if pixels.shape == theirs.shape else None

    return {
        "file": path.name,
        "by default": difference(Decoding()),
        "not turned": difference(Decoding(upright=False)),
        "note": "16-bit grey is scaled, not clipped" if path.name.startswith(("grey12", "grey16")) else "",
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", action="append", required=True, help="folder of images; can be repeated")
    parser.add_argument("--count", type=int, default=30, help="number of images per folder")
    parser.add_argument("--json", help="write the figures as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        odd = write_odd_images(Path(folder))
        paths = list(odd)
        for root in given.images:
            found = sorted(path for path in Path(root).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            paths += found[:: max(1, len(found) // given.count)][: given.count]
        pictures = {str(path): Image.open(path).convert("RGB") for path in paths}
        files = [decoded(path) for path in paths]
        rows = [
            compare(preset, pictures)
            for presets in (timm_presets(), torchvision_presets())
            for preset in presets
        ]
    named = [{**row, "note": row["note"].replace(folder + "/", "")} for row in rows]
    odd_files = files[: len(odd)]
    show("Decoded files: largest difference from the loaders, 0 to 255 (-: another size)", odd_files)
    show(
        "Transforms that differ, refuse, or have no counterpart",
        [row for row in named if wrong(row) or row["note"]],
    )
    real = files[len(odd) :]
    summary = [
        {
            "library": library,
            "weights": sum(row["weights"] for row in these),
            "transforms": len(these),
            "compared": sum(row["pixels"] is not None for row in these),
            "images": min(row["images"] for row in these if row["pixels"] is not None),
            "pixels": max(row["pixels"] or 0.0 for row in these),
            "normalised": max(row["normalised"] or 0.0 for row in these),
        }
        for library in ("timm", "torchvision")
        for these in [[row for row in named if row["library"] == library]]
    ]
    show(f"Largest differences on {len(real)} real and {len(odd)} odd images", summary)
    save(
        given.json, environment("pillow", "timm", "torchvision"), summary=summary, presets=named, files=files
    )
    misread = [file for file in files if file["not turned"] != 0 and not file["note"]]
    raise SystemExit(1 if misread or any(map(wrong, named)) else 0)


def wrong(row: dict[str, Any]) -> bool:
    """Whether there is a difference."""
    return bool(row["pixels"] or row["normalised"])


if __name__ == "__main__":
    main()
