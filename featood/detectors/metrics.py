"""Metrics of scores that arrive in batches, with labels of which the negative ones mark outliers."""

from __future__ import annotations

__all__ = [
    "AUPR",
    "AUROC",
    "AUTC",
    "Accuracy",
    "BufferedMetric",
    "FPRAtTPR",
    "Metric",
    "MetricCollection",
    "OODMetrics",
    "StreamingMetric",
]

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from featood.detectors import functional
from featood.detectors.utils import TensorBuffer, is_known
from featood.errors import DataError, UsageError

Inputs = Mapping[str, Tensor]


class Metric:
    """Base of the metrics: ``update`` with batches, then ``compute`` returns a dict of floats.

    Parameters
    ----------
    device : str
        Device to keep batches on; metrics are computed on the CPU.
    void_label : int, optional
        Label of rows that are left out; at least 0.
    """

    inputs: tuple[str, ...] = ("scores", "labels")
    """Names of the inputs of `update`, all of one shape."""
    optional_inputs: tuple[str, ...] = ()
    """Names of further inputs."""
    keys: tuple[str, ...] = ()
    """Keys of the result of `compute`."""
    needs_id: bool = False
    """Whether the metric is undefined without known rows."""
    needs_ood: bool = False
    """Whether the metric is undefined without outliers."""
    per_image: bool = False
    """Whether `update` takes images, instead of rows."""

    def __init__(self, *, device: str | torch.device | None = None, void_label: int | None = None) -> None:
        if void_label is not None and void_label < 0:
            raise UsageError(f"void_label is at least 0, as negative labels are outliers, not {void_label}")
        self.device, self.void_label = device, void_label
        self._reset()

    def update(self, **inputs: Tensor | None) -> Self:
        """Add a batch.

        Raises
        ------
        UsageError
            If an input is missing, or shapes differ.
        """
        self._add(self._rows(self._named(inputs)))
        return self

    def compute(self) -> dict[str, float]:
        """Return the value of each key.

        Raises
        ------
        DataError
            If there are no rows, or no known ones, or no outliers and the metric needs them; or scores are NaN.
        """
        raise NotImplementedError

    def reset(self) -> Self:
        """Forget all batches."""
        self._reset()
        return self

    def _reset(self) -> None:
        raise NotImplementedError

    def _add(self, rows: Inputs) -> None:
        raise NotImplementedError

    def _named(self, inputs: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        found = {name: values for name, values in inputs.items() if values is not None}
        if unknown := found.keys() - {*self.inputs, *self.optional_inputs}:
            raise TypeError(f"{type(self).__name__} has no input {', '.join(sorted(unknown))}")
        if missing := [name for name in self.inputs if name not in found]:
            raise UsageError(f"{type(self).__name__} needs {', '.join(missing)}")
        for name, values in found.items():
            if not isinstance(values, Tensor):
                raise TypeError(f"{name} must be a tensor, not {type(values).__name__}")
        if len({values.shape for values in found.values()}) > 1:
            shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in found.items())
            raise UsageError(f"inputs of one shape are needed, not {shapes}")
        return found

    def _rows(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the inputs as rows ``[N]``, without void ones."""
        rows = {name: values.detach().flatten().to(self.device, copy=True) for name, values in found.items()}
        if self.void_label is None:
            return rows
        kept = rows["labels"] != self.void_label
        return {name: values[kept] for name, values in rows.items()}


class StreamingMetric(Metric):
    """Base of the metrics that keep no batches."""


class BufferedMetric(Metric):
    """Base of the metrics that need all rows at once, and keep them.

    A subclass implements `evaluate`.
    """

    def update(self, scores: Tensor, labels: Tensor) -> Self:  # type: ignore[override]
        """Add scores and labels of one shape."""
        return super().update(scores=scores, labels=labels)

    def evaluate(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the values for all rows ``[N]``."""
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """Return the value of each key."""
        if self._buffer.is_empty():
            raise DataError(f"{type(self).__name__} was given no rows")
        return self.evaluate(self._buffer["scores"], self._buffer["labels"])

    def _reset(self) -> None:
        self._buffer = TensorBuffer(self.device)

    def _add(self, rows: Inputs) -> None:
        for name in self.inputs:
            self._buffer.append(name, rows[name])


class _Ranking(BufferedMetric):
    """Base of the metrics that compare known rows with outliers."""

    needs_id = needs_ood = True


class AUROC(_Ranking):
    """Area under the ROC curve; ties count one half."""

    keys = ("AUROC",)

    def evaluate(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the area."""
        return {"AUROC": functional.auroc(scores, labels)}


class AUPR(_Ranking):
    """Area under the precision-recall curve by the trapezoidal rule, for outliers (``ood``) or known rows (``id``)."""

    def __init__(self, positive: str = "ood", **options: Any) -> None:
        super().__init__(**options)
        self.positive = positive
        self.keys = ("AUPR-OUT" if functional.is_outlier(positive) else "AUPR-IN",)

    def evaluate(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the area."""
        return {self.keys[0]: functional.aupr(scores, labels, positive=self.positive)}


class FPRAtTPR(_Ranking):
    """Share of the known rows that are flagged where the share `tpr` of the outliers is."""

    def __init__(self, tpr: float = 0.95, **options: Any) -> None:
        super().__init__(**options)
        if not 0 < tpr <= 1:
            raise UsageError(f"the rate is a share above 0 and at most 1, not {tpr:g}")
        self.tpr, self.keys = tpr, (f"FPR{tpr * 100:g}TPR",)

    def evaluate(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the share."""
        return {self.keys[0]: functional.fpr_at_tpr(scores, labels, tpr=self.tpr)}


class AUTC(_Ranking):
    """Area under the threshold curve; NaN, with a warning, for constant or infinite scores."""

    keys = ("AUTC",)

    def evaluate(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the area."""
        if not bool(torch.isfinite(scores).all()) or bool(scores.min() == scores.max()):
            functional.auroc(scores, labels)  # raises what is wrong with the rows
            warnings.warn("AUTC is undefined for constant or infinite scores", stacklevel=2)
            return {"AUTC": math.nan}
        return {"AUTC": functional.autc(scores, labels)}


class Accuracy(StreamingMetric):
    """Share of the known rows whose prediction is the label."""

    inputs, keys, needs_id = ("predictions", "labels"), ("ACC",), True

    def update(self, predictions: Tensor, labels: Tensor) -> Self:  # type: ignore[override]
        """Add predicted classes and labels of one shape."""
        return super().update(predictions=predictions, labels=labels)

    def compute(self) -> dict[str, float]:
        """Return the share."""
        if not self._count:
            raise DataError("accuracy needs known rows (labels of at least 0)")
        return {"ACC": self._right / self._count}

    def _reset(self) -> None:
        self._right = self._count = 0

    def _add(self, rows: Inputs) -> None:
        known = is_known(rows["labels"])
        self._right += int((rows["predictions"] == rows["labels"])[known].sum())
        self._count += int(known.sum())


class MetricCollection(Metric):
    """Several metrics of the same batches.

    Parameters
    ----------
    metrics : sequence of Metric
        Their keys differ; they have no `device` and no `void_label` of their own.
    optional : sequence of Metric
        Metrics that are computed only if all their inputs were given.

    Raises
    ------
    UsageError
        If there are no metrics, or they cannot be combined.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import AUROC, FPRAtTPR, MetricCollection
    >>> metrics = MetricCollection([AUROC(), FPRAtTPR(0.9)])
    >>> metrics.update(scores=torch.tensor([0.1, 0.2, 0.9]), labels=torch.tensor([0, 1, -1])).compute()
    {'AUROC': 1.0, 'FPR90TPR': 0.0}
    """

    def __init__(self, metrics: Sequence[Metric], *, optional: Sequence[Metric] = (), **options: Any) -> None:
        self.metrics, self._optional = [*metrics, *optional], list(optional)
        if not self.metrics:
            raise UsageError("a collection needs at least one metric")
        check_member(*self.metrics)
        self.needs_id = any(metric.needs_id for metric in metrics)
        self.needs_ood = any(metric.needs_ood for metric in metrics)
        self.inputs = tuple(dict.fromkeys(name for metric in metrics for name in metric.inputs))
        self.optional_inputs = tuple(name for metric in optional for name in metric.inputs)
        self.keys = tuple(key for metric in self.metrics for key in metric.keys)
        if len(set(self.keys)) < len(self.keys):
            raise UsageError(f"metrics of a collection need different keys, not {', '.join(self.keys)}")
        super().__init__(**options)

    def compute(self) -> dict[str, float]:
        """Return the values of all metrics."""
        if self._given is None:
            raise DataError(f"{type(self).__name__} was given no rows")
        found: dict[str, float] = {}
        for metric in self.metrics:
            if isinstance(metric, BufferedMetric):  # all of them share the rows
                found |= metric.evaluate(self._buffer["scores"], self._buffer["labels"])
            elif metric not in self._optional or self._given:
                found |= metric.compute()
        return found

    def _reset(self) -> None:
        self._given: bool | None = None
        self._buffer = TensorBuffer(self.device)
        for metric in self.metrics:
            metric.reset()

    def _add(self, rows: Inputs) -> None:
        given = all(name in rows for metric in self._optional for name in metric.inputs)
        if self._given not in (None, given):
            raise UsageError("optional inputs are given in every update, or in none")
        self._given = given
        for name, values in rows.items():
            self._buffer.append(name, values)
        for metric in self.metrics:
            if not isinstance(metric, BufferedMetric) and (metric not in self._optional or given):
                metric._add(rows)


def check_member(*metrics: Metric) -> None:
    """Raise if a metric cannot be part of another: if it takes images, or has a device or void label of its own."""
    for metric in metrics:
        if metric.per_image:
            raise UsageError(f"{type(metric).__name__} takes images; it can only be around other metrics")
        if metric.device is not None or metric.void_label is not None:
            raise UsageError(f"give device and void_label of {type(metric).__name__} to the metric around it")


def rankings(fpr_at: float) -> list[Metric]:
    """Return the usual metrics that compare known rows with outliers."""
    return [AUROC(), AUTC(), AUPR("id"), AUPR("ood"), FPRAtTPR(fpr_at)]


class OODMetrics(MetricCollection):
    """The usual metrics of detection: AUROC, AUTC, AUPR-IN, AUPR-OUT, FPR95TPR, and ACC if predictions are given.

    Outliers (negative labels) are positive, so FPR95TPR is the share of known rows that are flagged where 95 % of the
    outliers are: `fpr95_ood` of :func:`featood.metrics.detection_metrics`, not `fpr95`.

    Parameters
    ----------
    fpr_at : float
        Share of outliers of the FPR.
    mode : str
        ``classification`` for scores ``[B]``, ``segmentation`` for scores ``[B, H, W]``; as the metrics are over all
        rows or pixels, the results are the same.
    **options
        See :class:`Metric`.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import OODMetrics
    >>> OODMetrics().update(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0, 1, -1])).compute()["AUROC"]
    1.0
    """

    def __init__(self, *, fpr_at: float = 0.95, mode: str = "classification", **options: Any) -> None:
        if mode not in ("classification", "segmentation"):
            raise UsageError(f"mode is classification or segmentation, not '{mode}'")
        super().__init__(rankings(fpr_at), optional=[Accuracy()], **options)

    def update(  # type: ignore[override]
        self, scores: Tensor, labels: Tensor, predictions: Tensor | None = None
    ) -> Self:
        """Add scores, labels and, optionally, predicted classes, all of one shape."""
        return super().update(scores=scores, labels=labels, predictions=predictions)
