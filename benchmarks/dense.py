"""Out-of-distribution pixels in made-up scenes: trains a small segmentation network, and compares heads on its pixels.

Scenes have circles, squares and triangles on a textured ground; test scenes also have rings and crosses, which the
network has never seen. A minute or two on one core: python benchmarks/dense.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

SIDE, WIDTH, CLASSES = 64, 24, 4
OUTLIER = 254
"""Value of out-of-distribution pixels in the masks of a folder."""
HEADS = {"msp": [], "energy": [], "max-logit": [], "mahalanobis": [], "knn": ["--k", "10"]}


class SmallSegmentation(nn.Module):
    """Two levels with a skip connection, a classifier at half the resolution, and bilinear upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, WIDTH, 3, 2, 1), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(WIDTH, 2 * WIDTH, 3, 2, 1), nn.BatchNorm2d(2 * WIDTH), nn.ReLU())
        self.deep = nn.Sequential(
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, 1, 2, 2), nn.BatchNorm2d(2 * WIDTH), nn.ReLU()
        )
        self.merge = nn.Sequential(nn.Conv2d(3 * WIDTH, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.classifier = nn.Conv2d(32, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, 4, H, W]``."""
        fine = self.first(images)
        coarse = functional.interpolate(self.deep(self.down(fine)), fine.shape[2:], mode="bilinear")
        logits = self.classifier(self.merge(torch.cat([fine, coarse], 1)))
        return functional.interpolate(logits, images.shape[2:], mode="bilinear")


def build() -> nn.Module:
    """Return the network, for ``python:benchmarks/dense.py:build``."""
    return SmallSegmentation()


def scene(rng: np.random.Generator, unknown: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene uint8 ``[64, 64, 3]``, and its mask ``[64, 64]``."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ground = 90 + 20 * np.sin(x / rng.uniform(3, 6)) + 10 * np.sin(y / 5)
    image = ground[..., None] * rng.uniform(0.8, 1.2, 3)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    kinds = [*rng.integers(1, CLASSES, rng.integers(2, 5)), *([int(rng.integers(4, 6))] if unknown else [])]
    for kind in kinds:
        row, column = rng.uniform(12, SIDE - 12, 2)
        size = rng.uniform(6, 11)
        v, u = (y - row) / size, (x - column) / size
        r = np.hypot(u, v)
        inside = {
            1: r < 1,
            2: np.maximum(abs(u), abs(v)) < 0.9,
            3: (v < 0.8) & (v > 2 * abs(u) - 1),
            4: (r < 1) & (r > 0.55),
            5: (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 1),
        }[int(kind)]
        colour = rng.uniform(60, 230, 3)
        image[inside] = colour + 15 * rng.normal(size=(inside.sum(), 1))
        mask[inside] = kind if kind < CLASSES else OUTLIER
    noisy = image + rng.normal(0, 6, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), mask


def write_scenes(folder: Path, counts: dict[str, int]) -> None:
    """Write the splits as a folder of images and masks."""
    for number, (split, count) in enumerate(counts.items()):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            drawn = scene(np.random.default_rng([number, index]), split == "test")
            for kind, values in zip(("images", "masks"), drawn, strict=True):
                Image.fromarray(values).save(folder / split / kind / f"{index:04d}.png")


def train(folder: Path, weights: Path, epochs: int) -> None:
    """Train the network on the train split, and save its weights."""
    torch.manual_seed(0)
    paths = sorted((folder / "train/images").iterdir())
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in paths])
    masks = torch.stack(
        [torch.from_numpy(np.array(Image.open(folder / "train/masks" / path.name))) for path in paths]
    )
    mean, std = (torch.tensor(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    inputs = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    net = SmallSegmentation()
    steps = epochs * (len(inputs) // 16)
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(16)[: len(inputs) // 16]:
            loss = functional.cross_entropy(net(inputs[rows]), masks[rows].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        right = (net(inputs[:64]).argmax(1) == masks[:64]).float().mean()
    print(f"{steps} steps, loss {loss:.3f}, accuracy of training pixels {right:.3f}")
    torch.save(net.state_dict(), weights)


def featood(*words: str) -> None:
    """Run a command of featood, and print it and its time."""
    begun = time.perf_counter()
    print(f"\nfeatood {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "featood", *words], check=True)
    print(f"{time.perf_counter() - begun:.1f} s", flush=True)


def main() -> None:
    """Make the scenes, train, extract, fit and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("dense-scenes"))
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    folder, weights = options.folder / "scenes", options.folder / "weights.pt"
    write_scenes(folder, {"train": options.images, "test": 60})
    train(folder, weights, options.epochs)
    code, cache = f"python:{__file__}:build", ["--cache", str(options.folder / "cache")]
    featood(
        "dense", "extract", "--backbone", code, "--weights", str(weights), "--dataset", str(folder),
        "--name", "small", *cache, "--overwrite",
    )  # fmt: skip
    for head, words in HEADS.items():
        if head in ("mahalanobis", "knn"):
            featood("fit", head, *words, "--backbone", "small", *cache, "--overwrite")
    named = [word for head in HEADS for word in ("--head", head)]
    maps = ["--maps", str(options.folder / "maps")]
    featood("dense", "score", "--backbone", "small", "--code", code, *named, *maps, *cache)
    featood("report", *maps, "--out", str(options.folder / "report.html"))


if __name__ == "__main__":
    main()
