"""Images per second of an extraction into a cache, beside the network's bare forward pass in the same run.

The images are random, and of the size of the network's input, so nothing is decoded or resized. The bare pass runs on
batches that are on the device already. A fraction near one means that reading, copying and writing cost nothing.

    python benchmarks/throughput.py --network tv:resnet50 --network timm:vit_base_patch16_224 --network wrn-28-10
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import save, show

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions
from featood.extractors.recipe import choose_transform
from featood.numerics.devices import pick_device
from featood.pipeline.extraction import extract_sets
from featood.speed.environment import environment


def images_of(size: int, rows: int, folder: Path) -> Path:
    """Write random images."""
    place = folder / f"images-{size}"
    place.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    np.savez(place / "test.npz", images=rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8))
    return place


def measured(network: str, rows: int, batch_size: int, precision: str, folder: Path) -> dict[str, object]:
    """Return images per second of both."""
    backbone = resolve_backbone(network, "random", num_classes=10)
    device = pick_device("auto")
    size = 32 if network.startswith(("wrn", "cifar", "densenet")) else 224
    images = open_dataset(str(images_of(size, rows, folder)))
    transform, _ = choose_transform(backbone, images, [0.5], [0.5], size)
    options = ExtractOptions(batch_size=batch_size, precision=precision, device=str(device))
    seconds = {}
    for part in ("warm", "extract"):
        began = time.perf_counter()
        extract_sets(
            FeatureCache(folder / f"{part}-{network.replace(':', '-')}"),
            backbone,
            [images],
            transform,
            options,
        )
        seconds[part] = time.perf_counter() - began
    module = backbone.module.to(device).eval()
    batch = torch.rand(batch_size, transform.channels, size, size, device=device)
    context = (
        torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    )
    passes = max(rows // batch_size, 1)
    with torch.inference_mode(), context:
        for part in ("warm", "bare"):
            began = time.perf_counter()
            for _ in range(passes):
                module(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[part] = time.perf_counter() - began
    extract, bare = rows / seconds["extract"], passes * batch_size / seconds["bare"]
    return {
        "network": network,
        "images": rows,
        "extract/s": extract,
        "bare/s": bare,
        "fraction": extract / bare,
    }


def main() -> None:
    """Measure each network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", action="append", required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measured(name, arguments.rows, arguments.batch_size, arguments.precision, Path(folder))
            for name in arguments.network
        ]
    show("images per second", rows)
    save(arguments.json, environment(), rows=rows)


if __name__ == "__main__":
    main()
