"""How to train: batches, optimiser, schedule, augmentation."""

from __future__ import annotations

__all__ = ["TrainOptions", "optimizer_of", "schedule_of", "settings_of"]

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.extractors.models.network import TrainableNet
from featood.extractors.trainer.augmentation import parse_augmentations
from featood.options import check_options, option
from featood.training import Schedule, constant, cosine, multi_step, warm_up

PRECISIONS = ("float32", "float64", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train: batches, optimiser, schedule, augmentation."""

    epochs: int = option(100, "passes over the training images", low=1)
    batch_size: int = option(128, "images in a batch, over all processes", low=1)
    outlier_batch: int = option(256, "outliers in a batch, over all processes", low=1)
    batch_classes: int = option(
        0, "classes in a batch, with as many images of each (0: images of a batch are drawn from all)", low=0
    )
    optimizer: str = option("sgd", "optimiser", choices=("sgd", "adam", "adamw"))
    lr: float = option(0.1, "learning rate at the start", low=0)
    lr_of: tuple[str, ...] = option(
        (),
        "learning rates of parts, as PART=RATE with the beginning of the names of weights: layer4=0.01,fc=0.1",
    )
    momentum: float = option(
        0.9, "momentum of sgd, and the first decay rate of adam and adamw", low=0, high=1
    )
    beta2: float = option(0.999, "second decay rate of adam and adamw", low=0, high=1)
    nesterov: bool = option(True, "Nesterov's momentum for sgd")
    weight_decay: float = option(5e-4, "weight decay", low=0)
    schedule: str = option(
        "cosine",
        "learning rate over time: cosine to min-lr, or falling at milestones",
        choices=("cosine", "steps", "constant"),
    )
    min_lr: float = option(0.0, "learning rate at the end of the cosine, at most lr", low=0)
    milestones: tuple[float, ...] = option(
        (0.5, 0.75), "shares of the training after which the learning rate falls, for steps"
    )
    factor: float = option(0.1, "factor of the learning rate at a milestone", low=0, high=1)
    warm_up: float = option(0.0, "epochs in which the learning rate rises to its value", low=0)
    frozen_epochs: int = option(
        0,
        "epochs at the start in which the weights below the last layer stay as they are; statistics of batch "
        "normalisation do not",
        low=0,
    )
    frozen_lr: float = option(
        0.0, "learning rate in these epochs (0: lr); the schedule begins after them", low=0
    )
    augment: tuple[str, ...] = option(
        (), "random changes of the images: crop, flip, randaugment, mutate:0.1, pixmix, ... (in order)"
    )
    mixup: float = option(0.0, "parameter of mixup's Beta distribution (0: no mixup)", low=0)
    cutmix: float = option(0.0, "parameter of CutMix's Beta distribution (0: no CutMix)", low=0)
    clip: float = option(0.0, "largest norm of the gradient (0: any)", low=0)
    average: float = option(
        0.0, "decay of a moving average of the weights, which is kept (0: none)", low=0, high=0.99999
    )
    validation: float = option(0.1, "share of the training images held out", low=0, high=0.9)
    keep: str = option("best", "weights to extract with: those with the best validation accuracy, or the last",
                       choices=("best", "last"))  # fmt: skip
    precision: str = option("float32", "precision of the training", choices=PRECISIONS)
    channels_last: bool = option(False, "memory layout with the channels last, which GPUs prefer")
    workers: int = option(0, "processes that read images", low=0)
    seed: int = option(0, "of the weights, the batches, the held-out images and the augmentation", low=0)
    device: str = option("auto", "device; auto takes a GPU if there is one")

    @property
    def name(self) -> str:
        """Name in messages of errors."""
        return "train"

    @property
    def rates(self) -> dict[str, float]:
        """Learning rates by part."""
        return dict(_rate(text) for text in self.lr_of)

    def __post_init__(self) -> None:
        check_options(self)
        parse_augmentations(self.augment)
        if len(self.rates) < len(self.lr_of):
            raise UsageError("lr-of has a part twice; name it once")
        if self.min_lr > self.lr:
            raise UsageError(f"min-lr must be at most lr, {self.lr}, not {self.min_lr}")
        if self.batch_classes and self.batch_size % self.batch_classes:
            raise UsageError(
                f"a batch of {self.batch_size} images cannot have as many of each of {self.batch_classes} classes; "
                f"take a multiple, such as {self.batch_classes * max(2, self.batch_size // self.batch_classes)}"
            )
        if self.frozen_epochs and self.frozen_epochs >= self.epochs:
            raise UsageError(
                f"frozen_epochs must be less than epochs, {self.epochs}, not {self.frozen_epochs}"
            )


def _rate(text: str) -> tuple[str, float]:
    part, _, number = text.rpartition("=")
    try:
        rate = float(number)
    except ValueError:
        rate = math.nan
    if not part or not 0 <= rate < math.inf:
        raise UsageError(f"lr-of takes PART=RATE with a rate of 0 or more, such as fc=0.01, not '{text}'")
    return part, rate


def optimizer_of(net: TrainableNet, options: TrainOptions) -> torch.optim.Optimizer:
    """Return the optimiser of a network's parameters, with a group of parameters for each learning rate.

    Raises
    ------
    UsageError
        If no weight has a name that begins with a part whose learning rate is given.
    """
    named = {name: value for name, value in net.named_weights().items() if value.requires_grad}
    groups: dict[str, list[Tensor]] = {part: [] for part in ("", *options.rates)}
    for name, value in named.items():
        longest = max((part for part in groups if f"{name}.".startswith(f"{part}." if part else "")), key=len)
        groups[longest].append(value)
    if empty := [part for part in options.rates if not groups[part]]:
        parts = sorted({name.partition(".")[0] if not name.startswith("parts.") else ".".join(name.split(".")[:2])
                        for name in named})  # fmt: skip
        raise UsageError(f"lr-of: no weight is in the part '{empty[0]}' (there are: {', '.join(parts)})")
    rates = {"": options.lr, **options.rates}
    parameters = [{"params": values, "lr": rates[part]} for part, values in groups.items() if values]
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, options.lr, options.momentum, weight_decay=options.weight_decay,
            nesterov=options.nesterov and options.momentum > 0,
        )  # fmt: skip
    kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, options.lr, (options.momentum, options.beta2), weight_decay=options.weight_decay)


def schedule_of(options: TrainOptions, per_epoch: int, steps: int) -> Schedule:
    """Return the factor on the learning rate at each step."""
    frozen = options.frozen_epochs * per_epoch
    first = options.frozen_lr / options.lr if options.frozen_lr and options.lr else 1.0
    then = _schedule_of(options, per_epoch, steps - frozen)
    return (lambda step: first if step < frozen else then(step - frozen)) if frozen else then


def _schedule_of(options: TrainOptions, per_epoch: int, steps: int) -> Schedule:
    if options.schedule == "cosine":
        chosen = cosine(steps, options.min_lr / options.lr if options.lr else 0.0)
    elif options.schedule == "steps":
        chosen = multi_step([round(share * steps) for share in options.milestones], options.factor)
    else:
        chosen = constant
    rising = round(options.warm_up * per_epoch)
    return warm_up(rising, chosen) if rising else chosen


def settings_of(options: TrainOptions) -> dict[str, Any]:
    """Return what decides the result; the number of workers and the device's name do not."""
    return {
        name: value for name, value in dataclasses.asdict(options).items() if name not in ("workers", "keep")
    }
