"""Heads as scikit-learn estimators, for ``Pipeline``, ``GridSearchCV`` and ``clone``.

Every head that takes plain features is a class here, named like the class of the head::

    from featood.sklearn import KNN, Mahalanobis

    detector = KNN(k=20, contamination=0.01).fit(features)
    detector.predict(others)            # 1: in-distribution, -1: out-of-distribution
    detector.score_samples(others)      # scikit-learn's sign: LOWER is more out-of-distribution

Options of the head are parameters. `estimators` lists the classes.
"""

from __future__ import annotations

__all__ = ["HeadEstimator", "estimators"]

import functools
import inspect
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head, list_heads
from featood.heads.index import Entry
from featood.heads.registry import head_entry

COLUMN = "features"
OTHER_COLUMNS = frozenset(
    {
        "column", "discrete-cd", "heat-gmm-std", "input-complexity", "likelihood", "likelihood-ratio",
        "mahalanobis-odin", "multi-mahalanobis", "odin", "typicality", "waic",
    }
)  # fmt: skip
"""Heads that read columns which only an extraction or an import makes."""


class HeadEstimator(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the estimators.

    Attributes
    ----------
    head_ : Head
        The fitted head.
    offset_ : float
        Score of the training rows below which a row is out-of-distribution, so that their share `contamination` is.
    classes_ : ndarray
        Labels of the training rows, for heads that need them.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    head: ClassVar[str]
    """Name of the head."""
    needs_labels: ClassVar[bool]
    """Whether `fit` needs the classes of the rows."""
    contamination: float
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "contamination": [Interval(Real, 0, 0.5, closed="right")]
    }

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array of shape [N, D]
            In-distribution rows.
        y : array of shape [N], optional
            Their classes, of any type, if the head needs them.

        Raises
        ------
        ValueError
            If rows, classes or a parameter are not valid.
        """
        self._validate_params()
        if self.needs_labels and y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        rows = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        labels = None
        if self.needs_labels:
            target = column_or_1d(y, warn=True)
            if len(target) != len(rows):
                raise ValueError(f"X has {len(rows)} rows, y has {len(target)}")
            self.classes_, labels = np.unique(target, return_inverse=True)
        options = {
            name: value for name, value in self.get_params(deep=False).items() if name != "contamination"
        }
        try:
            self.head_ = create_head(self.head, **options).fit(FeatureSet({COLUMN: rows}, labels=labels))
        except (DataError, UsageError) as error:
            raise ValueError(f"{error} (n_samples = {len(rows)}, n_features = {rows.shape[1]})") from None
        self.offset_ = float(np.percentile(self._scores(rows), 100 * self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the negated scores of the head ``[N]``: lower is more out-of-distribution."""
        check_is_fitted(self)
        return self._scores(validate_data(self, X, dtype=[np.float64, np.float32], reset=False))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return `score_samples` minus `offset_`: negative is out-of-distribution."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return 1 for in-distribution rows, and -1 for others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.needs_labels
        return tags

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        return -np.asarray(self.head_.score(FeatureSet({COLUMN: rows})))


def estimators() -> dict[str, type[HeadEstimator]]:
    """Return all estimators by name."""
    return {name: _made(head) for name, head in _names().items()}


def __getattr__(name: str) -> Any:
    if name in _names():
        return _made(_names()[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_names()]


@functools.cache
def _names() -> dict[str, str]:
    """Return the heads that take plain features, by the name of their class."""
    return {
        head_entry(name).qualname: name
        for name, card in list_heads().items()
        if set(card.needs) <= {"features", "labels"} and card.learns and name not in OTHER_COLUMNS
    }


@functools.cache
def _made(head: str) -> type[HeadEstimator]:
    """Make the class of a head, whose parameters are the head's options."""
    entry: Entry = head_entry(head)
    defaults = {option.name: option.default for option in entry.options} | {"contamination": 0.05}
    self_ = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, default=value) for name, value in defaults.items()]

    def __init__(self: HeadEstimator, **given: Any) -> None:
        if unknown := sorted(given.keys() - defaults.keys()):
            raise TypeError(f"{entry.qualname}.__init__() got an unexpected keyword argument {unknown[0]!r}")
        for name, value in (defaults | given).items():
            setattr(self, name, value)

    __init__.__signature__ = inspect.Signature([self_, *parameters])  # type: ignore[attr-defined]
    options = "\n".join(f"{option.name}\n    {option.help}." for option in entry.options)
    text = (
        f"{entry.card.summary}\n\nThe head `{head}`: {entry.card.paper}, {entry.card.year}. {entry.card.url}\n\n"
        f"Parameters\n----------\n{options}\ncontamination\n    share of the training rows that are "
        "out-of-distribution, by which the threshold is chosen.\n"
    )
    body = {
        "__init__": __init__, "__module__": __name__, "__qualname__": entry.qualname, "__doc__": text,
        "head": head, "needs_labels": "labels" in entry.card.needs,
    }  # fmt: skip
    return type(entry.qualname, (HeadEstimator,), body)
