"""Heads and detectors as modules of PyTorch, which are traced; the formulas are those of the heads."""

from __future__ import annotations

__all__ = ["DetectorGraph", "HeadGraph"]

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.cache.feature_set import Classifier, FeatureSet
from featood.errors import UsageError
from featood.extractors.transform import offset, resized
from featood.heads.base.calibration import Calibration
from featood.heads.base.head import WORST, Head
from featood.pipeline.detectors.network import ImageNetwork

RESIZES = ("bilinear", "bicubic")
"""Interpolations that PyTorch and ONNX have with anti-aliasing."""


class HeadGraph(nn.Module):
    """From the columns that a head reads to scores ``[B]`` in float64, higher = more out-of-distribution.

    A row without a finite score gets the score ``WORST``, also if the head is set to refuse such rows.

    Parameters
    ----------
    head : Head
        A fitted head.
    source : FeatureSet
        Rows with these columns, and with the classifier, which some heads read when they score.
    """

    def __init__(self, head: Head, source: FeatureSet) -> None:
        super().__init__()
        self.head = head
        read = head.select(source, fitting=False).source
        self.names = (*read.features, *([] if read.logits is None else ["logits"]))
        """Names of the columns, in the order of the arguments."""
        self.main = read.main
        layer = source.classifier
        self.classifier = None if layer is None else Classifier(*map(torch.as_tensor, layer))
        # a tensor, because the exporter to ONNX makes float32 of numbers
        self.register_buffer("worst", torch.tensor(WORST, dtype=torch.float64))
        self.worst: Tensor
        _ = head.prepared  # built of real tensors, before any are traced

    def forward(self, *columns: Tensor) -> Tensor:
        """Score rows."""
        features: dict[str, Any] = dict(zip(self.names, columns, strict=True))
        logits = features.pop("logits", None)
        block = FeatureSet(features, logits=logits, main=self.main, classifier=self.classifier)
        scores = self.head.score_checked(block).double()
        return torch.where(scores.abs() < self.worst, scores, self.worst)


class DetectorGraph(nn.Module):
    """From 8-bit images ``[B, H, W, channels]`` to scores, p-values, decisions, and predicted classes, ``[B]`` each.

    Parameters
    ----------
    network : ImageNetwork
        The network.
    head : Head
        The head.
    calibration : Calibration
        Its calibration.
    image_size : (int, int), optional
        Height and width of the images, which the graph resizes; by default, they have the size of the network's
        inputs.

    Raises
    ------
    UsageError
        If the head reads columns that need more than a forward pass, or the graph cannot compute as the network does.
    """

    def __init__(
        self,
        network: ImageNetwork,
        head: Head,
        calibration: Calibration,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.image_size = network, image_size
        self.plan, self.transform = network.forward.plan, network.transform
        self.module: nn.Module = network.backbone.module
        self.head = HeadGraph(head, network.features(torch.zeros(2, *self.transform.shape)))
        made = {*self.plan.columns, *(["logits"] if self.plan.has_logits else []), self.plan.density}
        if missing := [name for name in self.head.names if name not in made]:
            raise UsageError(
                f"{head.name} cannot be exported with its network: the column {missing[0]} needs more than one forward "
                "pass; export the head alone, whose input it is (--head-only)"
            )
        if network.options.precision != "float32":
            raise UsageError(
                f"the network computes in {network.options.precision}, which differs between runtimes; make a detector "
                "of features in float32"
            )
        if image_size is not None and self.transform.interpolation not in RESIZES:
            raise UsageError(
                f"images resized by {self.transform.interpolation} interpolation cannot be resized in a graph; leave "
                "out --image-size, and resize them before"
            )
        self.register_buffer("known", torch.as_tensor(calibration.scores))
        self.register_buffer("limits", torch.as_tensor(calibration.thresholds))
        by_class = calibration.classes is not None
        self.register_buffer("known_classes", torch.as_tensor(calibration.classes) if by_class else None)
        self.known: Tensor
        self.limits: Tensor
        self.known_classes: Tensor | None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return ("score", "p_value", "out", *(["predicted"] if self.plan.has_logits else []))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Decide on images."""
        with self.plan.recording(self.module) as run:
            columns = run(self.transform.normalised(self._pixels(images) / 255))
        scores = self.head(*(self._stored(name, columns[name]) for name in self.head.names))
        predicted = columns["logits"].argmax(1) if self.plan.has_logits else None
        return (scores, *self._decide(scores, predicted), *([] if predicted is None else [predicted]))

    def _pixels(self, images: Tensor) -> Tensor:
        """Return pixels from 0 to 255, ``[B, channels, height, width]``, resized and cropped."""
        pixels = images.permute(0, 3, 1, 2).float()
        if self.image_size is None:
            return pixels
        target = self.transform.height, self.transform.width
        size = (
            resized(self.image_size, self.transform.resize, self.transform.fit)
            if self.transform.resize
            else target
        )
        if size != self.image_size:
            pixels = F.interpolate(pixels, size, mode=self.transform.interpolation, antialias=True)
            pixels = pixels.round().clamp(0, 255)
        return self._centred(pixels, size, target)

    def _centred(self, pixels: Tensor, size: tuple[int, int], target: tuple[int, int]) -> Tensor:
        """Crop around the centre; images smaller than the input would have to be padded."""
        if size == target:
            return pixels
        if min(have - wanted for have, wanted in zip(size, target, strict=True)) < 0:
            raise UsageError("images that are padded cannot be resized in a graph; leave out --image-size")
        top, left = map(offset, size, target)
        return pixels[:, :, top : top + target[0], left : left + target[1]]

    def _stored(self, name: str, values: Tensor) -> Tensor:
        """Return a column in the number format of the set that the head was fitted on."""
        spec = self.network.origin.columns.get(name)
        return values.to(getattr(torch, spec.dtype if spec else "float32"))

    def _decide(self, scores: Tensor, predicted: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return p-values and decisions, as :meth:`Calibration.decide`."""
        higher = self.known >= scores[:, None]
        if self.known_classes is None:
            return (higher.sum(1) + 1).double() / (len(self.known) + 1), scores > self.limits[0]
        if predicted is None:
            raise UsageError("the thresholds depend on the predicted class, and the network predicts none")
        same = self.known_classes == predicted[:, None]
        p = ((higher & same).sum(1) + 1).double() / (same.sum(1) + 1)
        return p, scores > self.limits[predicted]
