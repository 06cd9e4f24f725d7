"""Base of the models that are trained on images or texts."""

from __future__ import annotations

__all__ = ["ImageBatch", "Model", "ModelCard", "Setup"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.extractors.models.network import SplitNet
from featood.options import check_options
from featood.training.loop import Losses


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Information about a model for choosing among models."""

    name: str
    title: str
    paper: str
    """Authors, title and venue."""
    year: int
    url: str
    needs: tuple[str, ...] = ("labels",)
    """Out of ``labels`` and ``outliers``; without labels, all images count as one class."""
    mixes: bool = False
    """Whether it can be trained on mixed images (mixup, CutMix)."""
    summary: str = ""
    """First line of the docstring."""


class Setup(NamedTuple):
    """What the parts of a model are made for."""

    classes: int
    """Number of classes of the labels."""
    width: int
    """Number of features of the network."""
    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height and width of the images."""
    mean: tuple[float, ...] = (0.0,)
    """Of their normalisation: one value, or one per channel, for pixels in [0, 1]."""
    std: tuple[float, ...] = (1.0,)
    """Likewise."""


class ImageBatch(NamedTuple):
    """A batch of training images; a negative label marks an outlier."""

    images: Tensor
    """``[B, C, H, W]``, normalised; texts are token numbers ``[B, L]``."""
    labels: Tensor
    """``[B]``."""
    step: int = 0
    """Number of the update, from 0."""
    steps: int = 1
    """Updates in all."""
    epoch: int = 0
    """Number of the epoch, from 0."""
    others: Tensor | None = None
    """Labels ``[B]`` of the images that were mixed in."""
    share: float = 1.0
    """Share of the images with `labels` in the mixed ones."""
    ends_epoch: bool = False
    """Whether this update is the last one of its epoch."""

    @property
    def done(self) -> float:
        """Share of the updates made before this one."""
        return self.step / self.steps

    @property
    def generator(self) -> torch.Generator:
        """Generator of random draws on the CPU, which is seeded before each update."""
        return torch.default_generator

    def inliers(self) -> ImageBatch:
        """Return the batch without its outliers."""
        known = self.labels >= 0
        return (
            self if bool(known.all()) else self._replace(images=self.images[known], labels=self.labels[known])
        )

    def cross_entropy(self, logits: Tensor, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of the labels that are not negative, and of the mixed images' other labels."""

        def loss(labels: Tensor) -> Tensor:
            # a sum over the number of rows is 0, not NaN, where there is none
            known = (labels >= 0).sum().clamp(min=1)
            return (
                F.cross_entropy(
                    logits, labels.clamp(min=-1), ignore_index=-1, label_smoothing=smoothing, reduction="sum"
                )
                / known
            )

        if self.others is None:
            return loss(self.labels)
        return self.share * loss(self.labels) + (1 - self.share) * loss(self.others)


@dataclasses.dataclass(kw_only=True, eq=False)
class Model:
    """Base of all models: a network, the parts that the model adds to it, and the losses of a batch.

    A subclass is registered by :func:`featood.extractors.models.register`; its fields are its options.
    """

    card: ClassVar[ModelCard]
    takes: ClassVar[tuple[str, ...]] = ("images",)
    """Kinds of inputs that it can be trained on; ``texts`` if its losses only need the outputs of the network."""
    shown: ClassVar[tuple[str, ...]] = ()
    """Parts whose outputs an extraction caches as columns, called after the part: ``confidence.avg``."""
    logits_part: ClassVar[str] = ""
    """Part whose outputs are the logits of the trained network, if its last linear layer does not compute them."""
    views: ClassVar[int] = 1
    """Differently augmented copies of each image in a batch: first all images, then all their second copies, ..."""
    classifies: ClassVar[bool] = True
    """Whether `errors` are misclassifications."""
    error_name: ClassVar[str] = "validation_error"
    """Name of the mean of other `errors` in the summary of a training; it begins with ``validation_``."""
    density_column: ClassVar[str] = ""
    """Column that an extraction makes of the logsumexp of the logits: ``log-density``, or ``energy``, negated."""
    training: ClassVar[Mapping[str, Any]] = {}
    """Defaults of :class:`~featood.extractors.trainer.TrainOptions` for this model, in place of its own."""
    transient: ClassVar[tuple[str, ...]] = ()
    """Parts that are needed in training only; the weights to extract with do not contain them."""
    advice: ClassVar[str] = "a smaller --lr"
    """What to change after a divergence."""
    own_network: ClassVar[bool] = False
    """Whether it makes its network itself (`network`), and takes no architecture."""
    colours: ClassVar[tuple[float, float] | None] = None
    """Mean and standard deviation of the normalisation; None for those of the dataset."""

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def name(self) -> str:
        """Command-line name."""
        return self.card.name

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs, as in `ModelCard`; it may depend on options."""
        return self.card.needs

    def outputs(self, classes: int) -> int:
        """Return the number of the network's logits; the number of classes, unless a model needs more."""
        return classes

    def network(self, setup: Setup) -> nn.Module:
        """Return the model's own network, if it has one, from images to outputs ``[B, C]``.

        All random numbers come from the global generator.
        """
        raise NotImplementedError

    def around(self, net: nn.Module, setup: Setup) -> nn.Module | None:
        """Return a network made around an architecture, which is trained and extracted with in its place.

        None leaves the architecture as it is, in two halves (:class:`SplitNet`).
        """
        return None

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the modules that the model adds to the network, by name."""
        return {}

    def prepare(self, net: SplitNet, batches: Iterable[ImageBatch]) -> None:
        """Set what depends on the training images before the first update, from one pass without augmentation.

        It is kept in buffers of the parts, so that an interrupted training resumes with it. Buffers are changed in
        place, so that several processes share those of the first.
        """

    def finish(self, net: SplitNet) -> None:
        """Set what follows from the trained tensors, such as a last layer that the losses do not train."""

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the error of each held-out image ``[B]``; weights with a lower mean are better."""
        return (net(batch.images).argmax(1) != batch.labels).float()

    def pictures(self, net: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return normalised images ``[N, C, H, W]`` that the network generates, by what they show, such as ``samples``.

        Parameters
        ----------
        net : Module
            The network.
        images : Tensor
            An even number of images ``[2 P, C, H, W]``, to interpolate between those of the first and the second half.
        generator : torch.Generator
            Generator of all draws.
        """
        return {}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the scalars of a batch by name; ``loss`` is minimised, the others are reported."""
        raise NotImplementedError
