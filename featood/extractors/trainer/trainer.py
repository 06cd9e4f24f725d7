"""Training of a network on images by a model's losses."""

from __future__ import annotations

__all__ = ["TrainImages", "TrainOptions", "Trained", "train_network"]

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from featood.data import ImageSet
from featood.errors import DataError, UsageError
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet, check_split
from featood.extractors.trainer.augmentation import parse_augmentations
from featood.extractors.trainer.distributed import Processes, processes
from featood.extractors.trainer.loader import ImageLoader
from featood.extractors.trainer.mixing import Mixing
from featood.extractors.transform import Transform
from featood.numerics.devices import pick_device
from featood.options import check_options, option
from featood.training import Batches, Schedule, constant, cosine, multi_step, warm_up
from featood.training.loop import train

PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
FOREVER = 10**9


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train: batches, optimiser, schedule, augmentation."""

    epochs: int = option(100, "passes over the training images", low=1)
    batch_size: int = option(128, "images in a batch, over all processes", low=1)
    outlier_batch: int = option(256, "outliers in a batch, over all processes", low=1)
    optimizer: str = option("sgd", "optimiser", choices=("sgd", "adam", "adamw"))
    lr: float = option(0.1, "learning rate at the start", low=0)
    momentum: float = option(
        0.9, "momentum of sgd, and the first decay rate of adam and adamw", low=0, high=1
    )
    nesterov: bool = option(True, "Nesterov's momentum for sgd")
    weight_decay: float = option(5e-4, "weight decay", low=0)
    schedule: str = option(
        "cosine",
        "learning rate over time: cosine to 0, or falling at milestones",
        choices=("cosine", "steps", "constant"),
    )
    milestones: tuple[float, ...] = option(
        (0.5, 0.75), "shares of the training after which the learning rate falls, for steps"
    )
    factor: float = option(0.1, "factor of the learning rate at a milestone", low=0, high=1)
    warm_up: float = option(0.0, "epochs in which the learning rate rises to its value", low=0)
    augment: tuple[str, ...] = option(
        (), "random changes of the images: crop, flip, randaugment, ... (in order)"
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
    precision: str = option("float32", "precision of the training", choices=tuple(PRECISIONS))
    channels_last: bool = option(False, "memory layout with the channels last, which GPUs prefer")
    workers: int = option(0, "processes that read images", low=0)
    seed: int = option(0, "of the weights, the batches, the held-out images and the augmentation", low=0)
    device: str = option("auto", "device; auto takes a GPU if there is one")

    @property
    def name(self) -> str:
        """Name in messages of errors."""
        return "train"

    def __post_init__(self) -> None:
        check_options(self)
        parse_augmentations(self.augment)


class TrainImages(NamedTuple):
    """What to train on."""

    images: ImageSet
    """Labelled images."""
    transform: Transform
    outliers: ImageSet | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result of a training."""

    net: SplitNet
    """With the weights to extract with, on the CPU."""
    last: Mapping[str, Tensor]
    """Tensors after the last update by name, as `SplitNet.named_tensors` returns them."""
    history: Mapping[str, list[float]]
    summary: Mapping[str, Any]
    """Steps, accuracy on the held-out images, seconds, and the like."""


def train_network(
    make: Callable[[int, int, torch.Generator], nn.Module],
    model: Model,
    data: TrainImages,
    options: TrainOptions,
    *,
    checkpoint: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[..., None] | None = None,
    initial: Callable[[nn.Module], object] | None = None,
) -> Trained:
    """Train a network; under ``torchrun`` by all processes together.

    Parameters
    ----------
    make : callable
        From the numbers of classes and channels and a generator to a network.
    model : Model
        Its losses are minimised.
    data : TrainImages
        Labelled images, their transform, and outliers if the model needs them.
    options : TrainOptions
        How.
    checkpoint : Path, optional
        Folder from which an interrupted training resumes.
    settings : mapping, optional
        Further facts, as JSON, that a checkpoint must share.
    progress : callable, optional
        Called as ``progress(step, total, loss=..., ...)``.
    initial : callable, optional
        Loads weights into the network, to fine-tune it.

    Raises
    ------
    DataError
        If labels or outliers are missing.
    UsageError
        If the network cannot be trained, or the options do not suit the model.
    """
    labels = _labels(data.images)
    if "outliers" in model.card.needs and data.outliers is None:
        raise UsageError(f"{model.name} needs outliers to train on: name a set by --outliers")
    mixing = Mixing(options.mixup, options.cutmix, options.seed)
    if mixing and not model.card.mixes:
        raise UsageError(f"{model.name} cannot be trained on mixed images; leave out mixup and cutmix")
    classes = len(data.images.classes) or int(labels.max()) + 1
    device = pick_device(options.device)
    generator = torch.Generator().manual_seed(options.seed)
    made = make(model.outputs(classes), data.transform.channels, generator)
    if initial is not None:
        initial(made)
    net = SplitNet(made, shown=model.shown)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(options.seed)
        net.parts.update(model.parts(Setup(classes, net.width)))
    check_split(net, torch.zeros(2, data.transform.channels, data.transform.height, data.transform.width))
    began = time.monotonic()
    with processes(device.type == "cuda") as team:
        run = _Run(net, model, data, labels, options, mixing, team, device)
        result = train(
            run.losses,
            net,
            _optimizer(net, options),
            run.steps,
            schedule=_schedule(options, run.per_epoch, run.steps),
            clip=options.clip or None,
            average=options.average,
            progress=progress if team.leads else None,
            checkpoint=checkpoint,
            writes=team.leads,
            settings={**(settings or {}), **_settings(options), "processes": team.world},
            every=run.per_epoch,
            validate=run.error if run.held_out else None,
            patience=FOREVER,
            keep_best=options.keep == "best",
        )
    summary = {**result.summary, "seconds": round(time.monotonic() - began, 1), "classes": classes}
    if errors := result.history.get("validation"):
        summary["validation_accuracy"] = 1 - (min(errors) if options.keep == "best" else errors[-1])
        del summary["validation"]
    last = net.named_tensors() if result.last is None else _named(net, result.last)
    return Trained(
        net.cpu().eval(), {name: value.cpu() for name, value in last.items()}, result.history, summary
    )


class _Objective(nn.Module):
    """The losses of a batch as a forward pass, which is what several processes share."""

    def __init__(self, net: SplitNet, model: Model) -> None:
        super().__init__()
        self.net, self.model = net, model

    def forward(self, batch: ImageBatch) -> dict[str, Tensor]:
        return dict(self.model.losses(self.net, batch))


class _Run:
    """The batches of a training, and their losses."""

    def __init__(
        self, net: SplitNet, model: Model, data: TrainImages, labels: np.ndarray, options: TrainOptions,
        mixing: Mixing, team: Processes, device: torch.device,
    ) -> None:  # fmt: skip
        self.net, self.options, self.mixing, self.team, self.device = net, options, mixing, team, device
        dtype = torch.float64 if options.precision == "float64" else torch.float32
        net.to(device, dtype)
        if options.channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        order = np.random.default_rng([options.seed, 1]).permutation(len(labels))
        self.held_out = round(options.validation * len(labels))
        known, held = np.sort(order[self.held_out :]), np.sort(order[: self.held_out])
        self.labels = torch.from_numpy(labels[known])
        size = min(options.batch_size, len(known))
        team.share(size, "a batch")
        batches = Batches(len(known), size, options.seed)
        self.per_epoch = len(batches)
        self.steps = options.epochs * self.per_epoch
        part = team.rank, team.world
        changes = parse_augmentations(options.augment)
        how: dict[str, Any] = {"augmentations": changes, "workers": options.workers, "part": part}
        self.inside = ImageLoader(
            data.images.subset(known), data.transform, batches, self.steps, seed=options.seed, **how
        )
        self.outside: ImageLoader | None = None
        if data.outliers is not None:
            count = min(options.outlier_batch, len(data.outliers))
            team.share(count, "a batch of outliers")
            others = Batches(len(data.outliers), count, options.seed + 1)
            self.outside = ImageLoader(
                data.outliers, data.transform, others, self.steps, seed=options.seed + 1, **how
            )
        self.validation = (data.images.subset(held), data.transform, labels[held])
        self.objective = team.wrap(_Objective(net, model), device)
        net.train()

    def losses(self, number: int) -> dict[str, Tensor]:
        """Return the losses of a batch by its number."""
        images, labels = self.inside(number), self.labels[self.inside.rows(number)]
        others, share = None, 1.0
        if self.mixing:
            images, others, share = self.mixing(images, labels, number)
        if self.outside is not None:
            odd = self.outside(number)
            images = torch.cat([images, odd])
            labels = torch.cat([labels, labels.new_full((len(odd),), -1)])
        batch = ImageBatch(
            self._placed(images), labels.to(self.device), number, self.steps,
            None if others is None else others.to(self.device), share,
        )  # fmt: skip
        with _seeded([self.options.seed, number, self.team.rank]), self._precision():
            return self.team.mean(self.objective(batch))

    @torch.no_grad()
    def error(self) -> float:
        """Return the share of held-out images that are classified wrongly."""
        images, transform, labels = self.validation
        wrong, size = 0, self.options.batch_size
        self.net.eval()
        rows = _Ordered(len(images), size)
        loader = ImageLoader(images, transform, rows, len(rows), workers=self.options.workers)
        with self._precision():
            for number in range(len(rows)):
                given = self.net(self._placed(loader(number))).argmax(1).cpu().numpy()
                wrong += int((given != labels[number * size : number * size + len(given)]).sum())
        self.net.train()
        return wrong / len(images)

    def _placed(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.options.channels_last else torch.contiguous_format
        return images.to(self.device, self.dtype, memory_format=layout, non_blocking=True)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.options.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


class _Ordered(Batches):
    """Rows in order, the remainder included."""

    def __len__(self) -> int:
        return -(-self.rows // self.size)

    def __call__(self, number: int) -> Tensor:
        return torch.arange(number * self.size, min((number + 1) * self.size, self.rows))


@contextlib.contextmanager
def _seeded(key: list[int]) -> Any:
    """Draw what layers draw (dropout) from a seed, so that an interrupted training repeats it."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.default_rng(key).integers(2**62)))
        yield


def _labels(images: ImageSet) -> np.ndarray:
    if images.labels is None or not len(images) or images.labels.min() < 0:
        raise DataError(f"{images.name}/{images.split} has images without a label; training needs labels")
    return images.labels


def _optimizer(net: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, options.lr, options.momentum, weight_decay=options.weight_decay,
            nesterov=options.nesterov and options.momentum > 0,
        )  # fmt: skip
    kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, options.lr, (options.momentum, 0.999), weight_decay=options.weight_decay)


def _schedule(options: TrainOptions, per_epoch: int, steps: int) -> Schedule:
    if options.schedule == "cosine":
        chosen = cosine(steps)
    elif options.schedule == "steps":
        chosen = multi_step([round(share * steps) for share in options.milestones], options.factor)
    else:
        chosen = constant
    rising = round(options.warm_up * per_epoch)
    return warm_up(rising, chosen) if rising else chosen


def _settings(options: TrainOptions) -> dict[str, Any]:
    """Return what decides the result; the number of workers and the device's name do not."""
    return {
        name: value for name, value in dataclasses.asdict(options).items() if name not in ("workers", "keep")
    }


def _named(net: SplitNet, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state of the network under its outside names."""
    names = dict(zip(net.state_dict(), net.named_tensors(), strict=True))
    return {names[name]: value for name, value in state.items()}
