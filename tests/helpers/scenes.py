"""A small network for segmentation, and scenes of three flat classes with a bright square that is unknown."""

import numpy as np
from PIL import Image

CODE = "python:net.py:build"
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.classifier = nn.Conv2d(6, 3, 1)

    def forward(self, images):
        logits = self.classifier(self.stem(images))
        return nn.functional.interpolate(logits, images.shape[2:], mode="bilinear")

def build():
    torch.manual_seed(1)
    return Net()
"""


def write_scenes(folder, counts, size):
    """Write the network to ``net.py`` and the splits to ``scenes/``; 254 is unknown, the first row is ignored."""
    (folder / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for number in range(count):
            mask = np.repeat(np.sort(rng.integers(0, 3, size[1]))[None], size[0], 0)
            image = np.stack([60 * (mask == channel) + 40 for channel in range(3)], 2)
            mask[0] = 255
            if split == "test" or number == 0:
                mask[3:8, 4:10] = 254
                image[3:8, 4:10] = 250
            image = image + rng.integers(0, 12, image.shape)
            for kind, values in (("images", image), ("masks", mask)):
                path = folder / "scenes" / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values.astype(np.uint8)).save(path)
    return folder / "scenes"
