"""Benchmarks with the interface of pytorch-ood: the metrics of detectors on an in-distribution set and outlier sets."""

from __future__ import annotations

__all__ = ["Benchmark"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from featood.detectors.base import Detector, FeaturesDetector, GradientDetector, LogitsDetector
from featood.detectors.batches import Model, apply_model, move, unpack
from featood.detectors.metrics import OODMetrics
from featood.detectors.utils import TensorBuffer
from featood.errors import UsageError


class Benchmark:
    """Base of the benchmarks: sets of pairs of input and label, which is negative for outliers.

    A subclass sets `ood_names` and defines `train_set` and `test_sets`, or sets `train_in`, `test_in` and `test_oods`.
    """

    ood_names: list[str]
    """Names of the outlier sets, in the order of `test_sets`."""
    train_in: Dataset[Any]
    test_in: Dataset[Any]
    test_oods: list[Dataset[Any]]

    def train_set(self) -> Dataset[Any]:
        """Return the in-distribution training set."""
        return self.train_in

    def test_sets(self, known: bool = True, unknown: bool = True) -> list[Dataset[Any]]:
        """Return the sets for testing.

        Parameters
        ----------
        known, unknown : bool
            Which rows: with both, each outlier set after the in-distribution one; without `unknown`, only the latter.

        Raises
        ------
        UsageError
            If both are false.
        """
        if not known and not unknown:
            raise UsageError("known, unknown or both must be true")
        if not unknown:
            return [self.test_in]
        return [ConcatDataset([self.test_in, other]) if known else other for other in self.test_oods]

    def evaluate(
        self, detector: Detector | Sequence[Detector], loader_kwargs: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu", cache: bool = False,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Compute the metrics of fitted detectors on every outlier set.

        Each set is read once for each detector; detectors of the logits or features of one model read it together.

        Parameters
        ----------
        detector : Detector or sequence of Detector
            One or several, which are moved to the device.
        loader_kwargs : mapping, optional
            Arguments of the :class:`torch.utils.data.DataLoader`, such as ``{"batch_size": 128}``.
        device : str
            Where to compute.
        cache : bool
            Keep logits and features for further calls, as long as models and sets stay the same. On disk, they are kept
            by :func:`featood.extract`, whose caches know to which model and inputs they belong.

        Returns
        -------
        list of dict
            For each outlier set, and each detector, the values of :class:`OODMetrics`, the name of the set as
            ``Dataset``, and, of several detectors, the name of the class as ``Detector``.
        """
        detectors = [detector] if isinstance(detector, Detector) else list(detector)
        for one in detectors:
            one.to(device)
        kept = vars(self).setdefault("_kept", {}) if cache else {}
        scored: list[list[tuple[Tensor, ...]]] = []
        for number, rows in enumerate((*self.test_sets(unknown=False), *self.test_sets(known=False))):
            loader, outputs = DataLoader(rows, **(loader_kwargs or {})), kept.setdefault(number, {})
            scored.append([_scored(one, loader, device, outputs) for one in detectors])
            if not cache:
                outputs.clear()
        inside, *others = scored
        return [
            OODMetrics().update(*known).update(*unknown).compute()
            | {"Dataset": name}
            | ({} if isinstance(detector, Detector) else {"Detector": type(one).__name__})
            for name, outside in zip(self.ood_names, others, strict=True)
            for one, known, unknown in zip(detectors, inside, outside, strict=True)
        ]


_Kept: TypeAlias = dict[Model, tuple[Tensor, Tensor]]
"""Outputs of models, and labels."""


def _scored(
    detector: Detector, loader: Iterable[Any], device: str | torch.device, kept: _Kept
) -> tuple[Tensor, ...]:
    """Return scores ``[N]`` and labels of a set, and the predicted classes if the detector has logits."""
    if isinstance(detector, LogitsDetector) and detector.model is not None:
        logits, labels = _outputs(detector.model, loader, device, kept)
        return detector.predict_logits(logits.to(device)).cpu(), labels, logits.argmax(1)
    differentiates = isinstance(detector, GradientDetector)
    if isinstance(detector, FeaturesDetector) and not differentiates and detector.encoder is not None:
        features, labels = _outputs(detector.encoder, loader, device, kept)
        return detector.predict_features(features.to(device)).cpu(), labels
    return _collected(detector, loader, device)


def _outputs(
    model: Model, loader: Iterable[Any], device: str | torch.device, kept: _Kept
) -> tuple[Tensor, Tensor]:
    if model not in kept:
        with torch.no_grad():
            kept[model] = _collected(lambda x: apply_model(model, x).flatten(1), loader, device)
    return kept[model]


def _collected(
    function: Callable[[Any], Tensor], loader: Iterable[Any], device: str | torch.device
) -> tuple[Tensor, Tensor]:
    """Return the values of a function, and the labels, of all batches of a loader."""
    buffer = TensorBuffer()
    for x, y in map(unpack, loader):
        buffer.append("values", function(move(x, device))).append("labels", y)
    return buffer["values"], buffer["labels"]
