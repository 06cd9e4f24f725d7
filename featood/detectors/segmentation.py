"""Metrics of score maps: over the pixels of all images, or means over images."""

from __future__ import annotations

__all__ = ["OODPerImageSegmentationMetrics", "OODSegmentationMetrics", "PerImage"]

import warnings
from typing import Any, Self

from torch import Tensor

from featood.detectors.metrics import (
    Inputs,
    Metric,
    MetricCollection,
    StreamingMetric,
    check_member,
    rankings,
)
from featood.detectors.utils import is_known
from featood.errors import DataError, UsageError


class OODSegmentationMetrics(MetricCollection):
    """The metrics of :class:`OODMetrics` over the pixels of all images."""

    def __init__(self, *, fpr_at: float = 0.95, **options: Any) -> None:
        super().__init__(rankings(fpr_at), **options)

    def update(self, scores: Tensor, labels: Tensor) -> Self:  # type: ignore[override]
        """Add scores and labels of one shape."""
        return super().update(scores=scores, labels=labels)


class PerImage(StreamingMetric):
    """Mean of a metric over images ``[B, ...]``.

    Images without known pixels, or without outliers, are skipped with a warning if the metric needs them.

    Parameters
    ----------
    metric : Metric
        A metric of labels and other inputs, without `device` and `void_label` of its own.
    **options
        See :class:`Metric`.

    Raises
    ------
    UsageError
        If the metric is itself one of images, or needs no labels.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import AUROC, PerImage
    >>> labels = torch.tensor([[0, 0, -1], [0, -1, -1]])
    >>> PerImage(AUROC()).update(torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.1, 0.2]]), labels).compute()
    {'AUROC': 0.5}
    """

    per_image = True

    def __init__(self, metric: Metric, **options: Any) -> None:
        check_member(metric)
        if "labels" not in metric.inputs:
            raise UsageError(f"{type(metric).__name__} has no labels")
        self.metric, self.inputs, self.keys = metric, metric.inputs, metric.keys
        super().__init__(**options)

    def update(self, *args: Tensor, **kwargs: Tensor | None) -> Self:
        """Add images, as the inputs of the metric."""
        if len(args) > len(self.inputs):
            raise TypeError(f"{type(self).__name__} has the inputs {', '.join(self.inputs)}")
        found = self._named({**dict(zip(self.inputs, args, strict=False)), **kwargs})
        if not found["labels"].ndim:
            raise UsageError("the inputs are images [B, ...], not single values")
        for image in range(len(found["labels"])):
            self._add(self._rows({name: values[image] for name, values in found.items()}))
        return self

    def compute(self) -> dict[str, float]:
        """Return the means."""
        if not self._results:
            raise DataError(f"none of {self._images} images has the pixels that {', '.join(self.keys)} need")
        if skipped := self._images - len(self._results):
            warnings.warn(
                f"skipped {skipped} of {self._images} images: no known pixels or no outliers", stacklevel=2
            )
        return {key: sum(r[key] for r in self._results) / len(self._results) for key in self._results[0]}

    def _reset(self) -> None:
        self._images, self._results = 0, list[dict[str, float]]()

    def _add(self, rows: Inputs) -> None:
        self._images += 1
        known = is_known(rows["labels"])
        lacking = (self.metric.needs_id and not bool(known.any())) or (
            self.metric.needs_ood and bool(known.all())
        )
        if len(known) and not lacking:
            self.metric.reset()._add(rows)
            self._results.append(self.metric.compute())


class OODPerImageSegmentationMetrics(PerImage):
    """Means over the images of the metrics of :class:`OODMetrics`."""

    def __init__(self, *, fpr_at: float = 0.95, **options: Any) -> None:
        super().__init__(MetricCollection(rankings(fpr_at)), **options)
