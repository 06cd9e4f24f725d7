"""What an experiment of active learning does, as plain values."""

from __future__ import annotations

__all__ = ["TRAINING", "ActivePlan", "seed_of"]

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from featood.errors import UsageError
from featood.extractors.trainer import Architecture, TrainOptions
from featood.extractors.trainer.options import settings_of
from featood.numerics.devices import pick_device
from featood.options import check_options, option

TRAINING = TrainOptions(
    epochs=20,
    batch_size=64,
    optimizer="adam",
    lr=1e-3,
    weight_decay=5e-4,
    schedule="constant",
    validation=0.1,
)
"""The published training of each network (Mukhoti et al., Deep Deterministic Uncertainty, CVPR 2023)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivePlan:
    """Images, network, and numbers of labels."""

    dataset: str
    """Labelled images; the labels of the pool are used once an image is acquired."""
    architecture: Architecture
    out: Path
    """Folder to write; experiments that differ only in the acquisition share it."""
    split: str = "train"
    test: str = ""
    """Images of the test accuracy as ``NAME/SPLIT`` or ``NAME``; by default ``DATASET/test``."""
    image_size: int = 0
    data_dir: str | None = None
    judge: str = ""
    """Folder of a trained network whose softmax entropy tells how ambiguous an image is."""
    threshold: float | None = None
    """Entropy in nats above which an image is ambiguous; by default 1 with a judge, otherwise 0."""
    ambiguous: bool = option(
        False, "add ambiguous digits to the pool: Ambiguous-MNIST, or interpolated digits if it is absent"
    )
    subsample: int = option(
        0, "images of the dataset in the pool, drawn at random (0: all, but 1000 with --ambiguous)", low=0
    )
    initial: int = option(
        20, "images labelled at first, equally many of each class, the same for all runs", low=1
    )
    acquire: int = option(5, "images labelled after each round", low=1)
    until: int = option(300, "labels after which a run ends", low=1)
    runs: int = option(5, "repetitions with other weights", low=1)
    epoch_images: int = option(
        5056,
        "images drawn for an epoch, each label as often as the others (if there are more labels, all)",
        low=1,
    )

    name = "active-learning"

    def __post_init__(self) -> None:
        check_options(self)
        if self.until < self.initial:
            raise UsageError(f"a run cannot end at {self.until} labels if it begins with {self.initial}")
        if self.threshold is not None and not self.threshold >= 0:
            raise UsageError(f"the threshold must be an entropy of at least 0, not {self.threshold}")

    @property
    def drawn(self) -> int:
        """Images of the dataset in the pool; 0 if all."""
        return self.subsample or (1000 if self.ambiguous else 0)

    def settings(self, options: TrainOptions) -> dict[str, Any]:
        """Return what decides the result of a round, as JSON; numbers of labels and of runs do not."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "test": self.test,
            "architecture": self.architecture.name,
            "architecture_options": dict(self.architecture.options),
            "ambiguous": self.ambiguous,
            "subsample": self.drawn,
            "initial": self.initial,
            "acquire": self.acquire,
            "epoch_images": self.epoch_images,
            **settings_of(options),
            "keep": options.keep,
            "device": str(pick_device(options.device)),
        }


def seed_of(*key: int) -> int:
    """Return a seed that differs for different keys."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])
