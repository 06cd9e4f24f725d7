"""Training of a network on images by a model's losses."""

from __future__ import annotations

__all__ = ["TrainImages", "Trained", "held_out_rows", "train_network"]

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from featood.data import ImageSet, InputSet
from featood.errors import DataError, UsageError
from featood.extractors.inputs import InputTransform
from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet, TrainableNet, check_split
from featood.extractors.trainer.augmentation import MIXES, parse_augmentations
from featood.extractors.trainer.distributed import Processes, leads, processes
from featood.extractors.trainer.loader import ImageLoader
from featood.extractors.trainer.mixing import Mixing
from featood.extractors.trainer.networks import MakeNet, trainable_net
from featood.extractors.trainer.options import TrainOptions, optimizer_of, schedule_of, settings_of
from featood.extractors.trainer.pictures import pictures_of
from featood.extractors.trainer.pixmix import PixMix
from featood.extractors.transform import Transform
from featood.nets.padded import joined
from featood.numerics.devices import pick_device
from featood.training import BalancedBatches, Batches
from featood.training.loop import train

FOREVER = 10**9
GOOD_STATES = 100
"""Updates between two states to return to, if no images are held out."""


class TrainImages(NamedTuple):
    """What to train on."""

    images: InputSet
    """Labelled images, or texts."""
    transform: InputTransform
    outliers: InputSet | None = None
    held_out: InputSet | None = None
    """Labelled images to validate on, in place of a share of `images`."""
    mixing: InputSet | None = None
    """Images that PixMix mixes in."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result of a training."""

    net: TrainableNet
    """With the weights to extract with, on the CPU."""
    last: Mapping[str, Tensor]
    """Tensors after the last update by name, as `TrainableNet.named_tensors` returns them."""
    history: Mapping[str, list[float]]
    summary: Mapping[str, Any]
    """Steps, accuracy on the held-out images, seconds, and the like."""
    pictures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Images that the network generates, uint8 ``[height, width, 3]``, by what they show."""


def train_network(
    make: MakeNet,
    model: Model,
    data: TrainImages,
    options: TrainOptions,
    *,
    checkpoint: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[..., None] | None = None,
    initial: Callable[[nn.Module], object] | None = None,
    show: Callable[[str, int, np.ndarray], None] | None = None,
) -> Trained:
    """Train a network; under ``torchrun`` by all processes together.

    Parameters
    ----------
    make : callable
        Makes the network, unless it is the model's own.
    model : Model
        Its losses are minimised.
    data : TrainImages
        Labelled images, their transform, and outliers if the model needs them.
    options : TrainOptions
        How.
    checkpoint : Path, optional
        Folder from which an interrupted training resumes; to be removed once the result is saved.
    settings : mapping, optional
        Further facts, as JSON, that a checkpoint must share.
    progress : callable, optional
        Called as ``progress(step, total, loss=..., ...)``.
    initial : callable, optional
        Loads weights into the network, to fine-tune it.
    show : callable, optional
        Called as ``show(what, step, picture)`` with images that the network generates, before each epoch.

    Raises
    ------
    DataError
        If labels or outliers are missing.
    UsageError
        If the network cannot be trained, or the options do not suit the model.
    """
    labels = _labels(data.images, model)
    if "outliers" in model.needs and data.outliers is None:
        raise UsageError(f"{model.name} needs outliers to train on: name a set by --outliers")
    if (MIXES in options.augment) != (data.mixing is not None):
        raise UsageError(
            f"{MIXES} needs images to mix with: name a set by --mixing-set" if data.mixing is None
            else f"a mixing set is used by --augment {MIXES} only"
        )  # fmt: skip
    kind = data.transform.takes
    if kind not in model.takes:
        raise UsageError(f"{model.name} is trained on {' or '.join(model.takes)} only, not on {kind}")
    if kind != Transform.takes and (options.augment or options.mixup or options.cutmix):
        raise UsageError(f"{kind} are not augmented or mixed; leave out augment, mixup and cutmix")
    labelled = "labels" in model.needs
    mixing = Mixing(options.mixup, options.cutmix, options.seed)
    if mixing and not model.card.mixes:
        raise UsageError(f"{model.name} cannot be trained on mixed images; leave out mixup and cutmix")
    classes = (labelled and len(data.images.classes)) or int(labels.max()) + 1
    device = pick_device(options.device)
    net: Any = trainable_net(model, make, classes, data.transform, options.seed, initial)
    if isinstance(net, SplitNet):
        check_split(net, data.transform.example())
    began = time.monotonic()
    with processes(device.type == "cuda") as team:
        run = _Run(net, model, data, labels, options, mixing, team, device, show)
        with torch.no_grad(), _seeded([options.seed, FOREVER]):
            model.prepare(net.eval(), run.plain())
        net.train()
        validates = len(run.held_out[0]) > 0
        result = train(
            run.losses,
            net,
            optimizer_of(net, options),
            run.steps,
            schedule=schedule_of(options, run.per_epoch, run.steps),
            clip=options.clip or None,
            average=options.average,
            progress=progress,
            checkpoint=checkpoint,
            writes=leads(),
            keep_checkpoint=True,
            settings={**(settings or {}), **settings_of(options), "processes": team.world},
            every=run.per_epoch if validates else min(run.per_epoch, GOOD_STATES),
            validate=run.error if validates else None,
            patience=FOREVER,
            keep_best=options.keep == "best",
        )
        team.agree(net)
        pictures = run.pictures()
    summary = {**result.summary, "seconds": round(time.monotonic() - began, 1), "classes": classes}
    if errors := [error for error in result.history.get("validation", []) if not math.isnan(error)]:
        error = min(errors) if options.keep == "best" else errors[-1]
        summary |= {"validation_accuracy": 1 - error} if model.classifies else {model.error_name: error}
        del summary["validation"]
    net.cpu().eval()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    last = _finished(net, model, result.last or kept)
    _finished(net, model, kept)
    return Trained(net, last, result.history, summary, pictures)


def held_out_rows(rows: int, share: float, seed: int) -> np.ndarray:
    """Return the numbers of the images that a training holds out, ascending."""
    order = np.random.default_rng([seed, 1]).permutation(rows)
    return np.sort(order[: round(share * rows)])


class _Objective(nn.Module):
    """The losses of a batch as a forward pass, which is what several processes share."""

    def __init__(self, net: Any, model: Model) -> None:
        super().__init__()
        self.net, self.model = net, model

    def forward(self, batch: ImageBatch) -> dict[str, Tensor]:
        return dict(self.model.losses(self.net, batch))


class _Run:
    """The batches of a training, and their losses."""

    def __init__(
        self, net: Any, model: Model, data: TrainImages, labels: np.ndarray, options: TrainOptions,
        mixing: Mixing, team: Processes, device: torch.device, show: Callable[[str, int, np.ndarray], None] | None,
    ) -> None:  # fmt: skip
        self.show = show
        self.net, self.model, self.data, self.options = net, model, data, options
        self.mixing, self.team, self.device = mixing, team, device
        dtype = torch.float64 if options.precision == "float64" else torch.float32
        net.to(device, dtype)
        if options.channels_last:
            net.to(memory_format=torch.channels_last)
        self.dtype = dtype
        share = options.validation if data.held_out is None else 0.0
        held = held_out_rows(len(labels), share, options.seed)
        known = np.setdiff1d(np.arange(len(labels)), held)
        self.known, self.labels = known, torch.from_numpy(labels[known])
        self.held_out = data.images.subset(held), torch.from_numpy(labels[held])
        if data.held_out is not None:
            self.held_out = data.held_out, torch.from_numpy(_labels(data.held_out, model))
        size = min(options.batch_size, len(known))
        team.share(size, "a batch")
        batches = self._batches(size)
        self.per_epoch = len(batches)
        self.steps = options.epochs * self.per_epoch
        part = team.rank, team.world
        mix = None
        if isinstance(data.mixing, ImageSet) and isinstance(data.transform, Transform):
            mix = PixMix(data.mixing, data.transform)
        changes = parse_augmentations(options.augment, mix)
        how: dict[str, Any] = {
            "augmentations": changes, "workers": options.workers, "part": part, "views": model.views,
        }  # fmt: skip
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
        trained = [parameter for parameter in net.body.parameters() if parameter.requires_grad]
        self.frozen = trained if options.frozen_epochs else []
        self.objective = team.wrap(_Objective(net, model), device)

    def _batches(self, size: int) -> Batches:
        count = self.options.batch_classes
        if not count:
            return Batches(len(self.known), size, self.options.seed)
        if (found := len(self.labels.unique())) < count:
            raise UsageError(f"the training images have {found} classes, fewer than batch_classes, {count}")
        self.team.share(size // count, "the images of a class in a batch")
        return BalancedBatches(self.labels, count, size // count, self.options.seed)

    def losses(self, number: int) -> dict[str, Tensor]:
        """Return the losses of a batch by its number."""
        if self.show is not None and number % self.per_epoch == 0:
            for what, picture in self.pictures().items():
                self.show(what, number, picture)
        for parameter in self.frozen:
            parameter.requires_grad_(number // self.per_epoch >= self.options.frozen_epochs)
        images, labels = self.inside(number), self.labels[self.inside.rows(number)].repeat(self.inside.views)
        others, share = None, 1.0
        if self.mixing:
            images, others, share = self.mixing(images, labels, number)
        if self.outside is not None:
            odd = self.outside(number)
            images = joined([images, odd])
            labels = torch.cat([labels, labels.new_full((len(odd),), -1)])
        batch = ImageBatch(
            self._placed(images), labels.to(self.device), number, self.steps, number // self.per_epoch,
            None if others is None else others.to(self.device), share, (number + 1) % self.per_epoch == 0,
        )  # fmt: skip
        with _seeded([self.options.seed, number, self.team.rank]), self._precision():
            return self.team.mean(self.objective(batch))

    def pictures(self) -> dict[str, np.ndarray]:
        """Return what the network generates, from fixed random numbers and the first images."""
        if not isinstance(self.data.transform, Transform):
            return {}
        images = self.held_out[0] if len(self.held_out[0]) > 1 else self.data.images
        first = next(self._in_order(images, torch.zeros(len(images)))).images
        return pictures_of(self.model, self.net, first, self.data.transform, self.options.seed)

    def plain(self) -> Iterator[ImageBatch]:
        """Yield the training images once, in order and without augmentation."""
        return self._in_order(self.data.images.subset(self.known), self.labels)

    @torch.no_grad()
    def error(self) -> float:
        """Return the mean error of the held-out images."""
        self.team.agree(self.net)
        self.net.eval()
        images, labels = self.held_out
        with self._precision():
            errors = [
                self.model.errors(self.net, batch).double().cpu() for batch in self._in_order(images, labels)
            ]
        self.net.train()
        return float(torch.cat(errors).mean())

    def _in_order(self, images: InputSet, labels: Tensor) -> Iterator[ImageBatch]:
        rows = _Ordered(len(images), self.options.batch_size)
        loader = ImageLoader(images, self.data.transform, rows, len(rows), workers=self.options.workers)
        for number in range(len(rows)):
            yield ImageBatch(self._placed(loader(number)), labels[rows(number)].to(self.device))

    def _placed(self, images: Tensor) -> Tensor:
        if not images.is_floating_point():  # token numbers
            return images.to(self.device, non_blocking=True)
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


def _labels(images: InputSet, model: Model) -> np.ndarray:
    if "labels" not in model.needs:
        return np.zeros(len(images), np.int64)
    if images.labels is None or not len(images) or images.labels.min() < 0:
        raise DataError(
            f"{images.name}/{images.split} has {images.kind} without a label; training needs labels"
        )
    return images.labels


@torch.no_grad()
def _finished(net: Any, model: Model, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load a state, let the model finish it, and return copies of its tensors under their outside names."""
    net.load_state_dict(state)
    model.finish(net)
    return {name: value.clone() for name, value in net.named_tensors().items()}
