"""Search of hyperparameters of a detector on validation data that include outliers."""

from __future__ import annotations

__all__ = ["GridSearch"]

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from featood.detectors.base import Detector, FeaturesDetector, GradientDetector, LogitsDetector
from featood.detectors.batches import apply_model, extract_features, move, unpack
from featood.detectors.metrics import Metric, OODMetrics
from featood.detectors.utils import TensorBuffer
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

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import KNN, GridSearch
    >>> x = torch.arange(40.0)[:, None].sin()
    >>> train, val = [(x, torch.zeros(40))], [(torch.cat([x, x + 3]), torch.tensor([0, -1]).repeat_interleave(40))]
    >>> GridSearch(KNN(torch.nn.Identity(), normalize=False), train, val, {"k": [1, 5]}).run()["k"] in (1, 5)
    True
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
        fit, score, batches = self._prepared()
        self.results_, sign = [], 1 if self.higher_is_better else -1
        for values in itertools.product(*self.space.values()):
            params = dict(zip(self.space, values, strict=True))
            fit(detector.set_hyperparameters(**params))
            self.results_.append({"params": params, "score": self._evaluate(score, batches)})
        finite = [result for result in self.results_ if math.isfinite(result["score"])]
        if not finite:
            raise DataError(f"no combination has a finite {self.metric_name}")
        best = max(finite, key=lambda result: sign * result["score"])
        self.best_params_, self.best_score_ = best["params"], best["score"]
        fit(detector.set_hyperparameters(**best["params"]))
        return best["params"]

    def _prepared(self) -> tuple[Callable[[Detector], Any], Callable[[Any], Tensor], Iterable[Any]]:
        """Return functions that fit and that score, and the batches to score.

        If the detector scores features or logits, these are the batches, and are computed here.
        """
        detector: Any = self.detector
        part, kind = (
            ("encoder", "features") if isinstance(detector, FeaturesDetector) else ("model", "logits")
        )
        model: Any = getattr(detector, part, None)
        by_rows = isinstance(detector, FeaturesDetector | LogitsDetector) and model is not None
        if not by_rows or isinstance(detector, GradientDetector):
            return (
                lambda d: d.fit(self.fit_loader) if d.requires_fit else d,
                detector.predict,
                self.val_loader,
            )
        train = extract_features(self.fit_loader or (), model, self.device) if detector.requires_fit else ()
        buffer = TensorBuffer()
        with torch.no_grad():
            for x, y in map(unpack, self.val_loader):
                buffer.append("rows", apply_model(model, move(x, self.device)).flatten(1)).append("labels", y)
        return (
            lambda d: getattr(d, f"fit_{kind}")(*train) if d.requires_fit else d,
            getattr(detector, f"predict_{kind}"),
            [(buffer["rows"], buffer["labels"])],
        )

    def _evaluate(self, score: Callable[[Any], Tensor], batches: Iterable[Any]) -> float:
        """Return the value of the metric, or NaN if a score is not finite."""
        self.metric.reset()
        for x, labels in map(unpack, batches):
            scores = score(move(x, self.device))
            if not bool(torch.isfinite(scores).all()):
                return math.nan
            self.metric.update(scores=scores, labels=labels.to(scores.device))
        result = self.metric.compute()
        if self.metric_name not in result:
            raise UsageError(f"the metric has no '{self.metric_name}' (it has: {', '.join(result)})")
        return result[self.metric_name]
