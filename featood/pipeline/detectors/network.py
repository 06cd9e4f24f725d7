"""The network of a detector: from images to features in memory."""

from __future__ import annotations

__all__ = ["ImageNetwork"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featood.cache.feature_set import FeatureSet
from featood.cache.manifest import Manifest
from featood.data import Decoding
from featood.extractors.forward import Forward
from featood.extractors.inputs import image_transform
from featood.extractors.recipe import rebuild
from featood.numerics.devices import pick_device


class ImageNetwork:
    """A network that extracts features as those of a set were extracted.

    Parameters
    ----------
    origin : Manifest
        Manifest of that set.
    code : sequence of str or Module
        Code that may be run; see :func:`featood.extractors.recipe.rebuild`.
    device : str
        ``auto`` selects a GPU if there is one.

    Raises
    ------
    UsageError, Mismatch, CacheCorrupt
        As :func:`featood.extractors.recipe.rebuild`.
    """

    def __init__(self, origin: Manifest, code: Sequence[str | nn.Module] = (), device: str = "auto") -> None:
        self.origin = origin
        self.backbone, transform, self.options = rebuild(origin, code)
        self.transform = image_transform(transform, self.backbone.name)
        self.device = pick_device(device)
        module: Any = self.backbone.module.eval().to(self.device)
        module.to(memory_format=torch.channels_last)
        self.forward = Forward(module, self._placed(self.transform.example()), self.options, self.transform)
        self.classifier = self.forward.plan.classifier(module)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the logits; empty if unknown."""
        return self.origin.classes

    @property
    def decoding(self) -> Decoding:
        """How files were decoded."""
        return Decoding(**self.origin.run.get("decoding", {}))

    def inputs(self, images: Sequence[np.ndarray]) -> Tensor:
        """Transform decoded images, uint8 ``[H, W]`` or ``[H, W, 3]``, to network inputs ``[B, C, H, W]``."""
        return self.transform(list(images))

    def features(self, inputs: Tensor, row: int = 0) -> FeatureSet:
        """Return the features of network inputs, in the number formats of the set.

        Parameters
        ----------
        inputs : Tensor
            ``[B, C, H, W]``.
        row : int
            Number of the first of these rows in all rows, on which columns with random numbers depend.
        """
        columns = {}
        for name, values in self.forward(self._placed(inputs), row).items():
            stored = self.origin.columns[name].dtype if name in self.origin.columns else "float32"
            columns[name] = values.cpu().numpy().astype(stored, copy=False)
        logits = columns.pop("logits", None)
        return FeatureSet(
            columns, logits=logits, classifier=self.classifier, main=self.forward.plan.main,
            fingerprint=self.origin.backbone_fingerprint, name="images", classes=self.classes,
        )  # fmt: skip

    def _placed(self, inputs: Tensor) -> Tensor:
        return inputs.to(self.device, memory_format=torch.channels_last)
