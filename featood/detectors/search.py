"""Search of hyperparameters of a detector on validation data that include outliers."""

from __future__ import annotations

__all__ = ["GridSearch"]

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from featood.detectors.base import Detector, FeaturesDetector, GradientDetector, LogitsDetector
from featood.detectors.metrics import Metric, OODMetrics
from featood.detectors.utils import TensorBuffer, extract_features
from featood.errors import DataError, UsageError


class GridSearch:
    """Try all combinations of hyperparameters, and leave the detector fitted with the best.

    Features or logits are computed once, if the detector scores them.

    Parameters
    ----------
    detector : Detector
        The detector, which is changed.
    fit_loader, val_loader : iterable
        Batches to fit on, if the detector has to be fitted, and to evaluate on.
    hyperparameter_space : mapping of str to sequence, optional
        Values of each hyperparameter; by default those of the detector.
    metric : Metric, optional
        By default :class:`OODMetrics`.
    metric_name : str
        Key of its result.
    higher_is_better : bool
        Whether the largest value is the best.
    device : str
        Device to compute on.

    Attributes
    ----------
    best_params_, best_score_, results_
        The best combination, its value, and all combinations with their values.

    Raises
    ------
    UsageError
        If there is nothing to search.
    """

    def __init__(
        self,
        detector: Detector,
        fit_loader: Iterable[Any] | None,
        val_loader: Iterable[Any],
        hyperparameter_space: Mapping[str, Sequence[Any]] | None = None,
        metric: Metric | None = None,
        metric_name: str = "AUROC",
        higher_is_better: bool = True,
        device: str = "cpu",
    ) -> None:
        self.detector, self.fit_loader, self.val_loader = detector, fit_loader, val_loader
        self.space = hyperparameter_space or detector.hyperparameter_space
        if not self.space or not all(map(len, self.space.values())):
            raise UsageError(f"hyperparameter_space has nothing to try for {type(detector).__name__}")
        self.metric, self.metric_name = metric or OODMetrics(), metric_name
        self.higher_is_better, self.device = higher_is_better, device
        self.best_params_: dict[str, Any] | None = None
        self.best_score_: float | None = None
        self.results_: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Search, and return the best combination.

        Raises
        ------
        UsageError
            If there is no data to fit on, or the metric has no result of this name.
        DataError
            If no combination has a finite result.
        """
        detector = self.detector.to(self.device)
        if detector.requires_fit and self.fit_loader is None:
            raise UsageError(f"{type(detector).__name__} has to be fitted; give a fit_loader")
        detector.hyperparameter_space = self.space
        self.results_, sign = [], 1 if self.higher_is_better else -1
        fit, batches = self._prepared()
        for values in itertools.product(*self.space.values()):
            detector.set_hyperparameters(**(params := dict(zip(self.space, values, strict=True))))
            fit()
            self.results_.append({"params": params, "score": self._evaluate(batches)})
        finite = [result for result in self.results_ if math.isfinite(result["score"])]
        if not finite:
            raise DataError(f"no combination has a finite {self.metric_name}")
        best = max(finite, key=lambda result: sign * result["score"])
        self.best_params_, self.best_score_ = best["params"], best["score"]
        detector.set_hyperparameters(**best["params"])
        fit()
        return best["params"]

    def _prepared(self) -> tuple[Any, Any]:
        """Return how to fit, and an iterable of functions that return the scores of a batch, with its labels."""
        detector: Any = self.detector
        fit_loader = self.fit_loader or ()
        part = "encoder" if isinstance(detector, FeaturesDetector) else "model"
        produce: Any = getattr(detector, part, None)
        direct = isinstance(detector, FeaturesDetector | LogitsDetector)
        if not direct or isinstance(detector, GradientDetector) or produce is None:
            fit = (lambda: detector.fit(fit_loader)) if detector.requires_fit else (lambda: None)
            return fit, lambda: ((detector.predict(x.to(self.device)), y) for x, y in self.val_loader)
        kind = "features" if part == "encoder" else "logits"
        data = extract_features(fit_loader, produce, self.device) if detector.requires_fit else ()
        fit = (lambda: getattr(detector, f"fit_{kind}")(*data)) if data else (lambda: None)
        buffer = TensorBuffer()
        with torch.no_grad():
            for x, y in self.val_loader:
                buffer.append("z", produce(x.to(self.device)).flatten(1)).append("y", y)
        rows = buffer["z"], buffer["y"]
        return fit, lambda: [(getattr(detector, f"predict_{kind}")(rows[0]), rows[1])]

    def _evaluate(self, batches: Any) -> float:
        """Return the value of the metric, or NaN if a score is not finite."""
        self.metric.reset()
        scores: Tensor
        for scores, labels in batches():
            if not bool(torch.isfinite(scores).all()):
                return math.nan
            self.metric.update(scores=scores, labels=labels.to(scores.device))
        result = self.metric.compute()
        if self.metric_name not in result:
            raise UsageError(f"the metric has no '{self.metric_name}' (it has: {', '.join(result)})")
        return result[self.metric_name]
