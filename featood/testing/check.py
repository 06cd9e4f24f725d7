"""A check: a requirement for heads in words, and a function that tests it."""

from __future__ import annotations

__all__ = ["Check", "Subject", "promise", "refuses", "same", "unchanged"]

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.errors import FeatoodError
from featood.heads.base.head import WORST, Head
from featood.heads.registry import Card, create_head, head_class
from featood.testing.extras import example_sets


@dataclasses.dataclass(frozen=True)
class Subject:
    """A head under test: how to create it, and its fit and scores on the synthetic sets."""

    kind: type[Head]
    options: dict[str, Any]

    @classmethod
    def of(cls, head: str | type[Head] | Head, **options: Any) -> Subject:
        """Create a subject from a name, a class or an instance."""
        if isinstance(head, Head):
            return cls(type(head), {**head.options, **options})
        kind = head_class(head) if isinstance(head, str) else head
        return cls(kind, {**kind.testing_options, **options})

    @property
    def card(self) -> Card:
        """The head's card."""
        return self.kind.card

    @functools.cached_property
    def sets(self) -> tuple[FeatureSet, FeatureSet]:
        """Training and test set."""
        return example_sets()

    @property
    def train(self) -> FeatureSet:
        """Training set, including outliers with label -1."""
        return self.sets[0]

    @property
    def test(self) -> FeatureSet:
        """Test set, including outliers with label -1."""
        return self.sets[1]

    @functools.cached_property
    def fitted(self) -> Head:
        """The head fitted on the training set."""
        return self.fit(self.train)

    @functools.cached_property
    def scores(self) -> np.ndarray:
        """Scores of the test set."""
        return self.score(self.fitted, self.test)

    def create(self, **options: Any) -> Head:
        """Create an unfitted head."""
        return create_head(self.card.name, **{**self.options, **options})

    def fit(self, train: Any, **options: Any) -> Head:
        """Create a head and fit it."""
        return self.create(**options).fit(train)

    def score(self, head: Head, data: Any) -> np.ndarray:
        """Score rows, and require all scores to be finite and not replaced by the worst score."""
        scores = np.asarray(head.score(data))
        bad = ~(np.abs(scores) < WORST)
        assert not bad.any(), f"{bad.sum()} of {len(scores)} rows got no finite score"
        return scores


@dataclasses.dataclass(frozen=True)
class Check:
    """A requirement (`promise`) and the function that tests it."""

    name: str
    promise: str
    run: Callable[[Subject], None]

    def __str__(self) -> str:
        return self.name

    def __call__(self, head: str | type[Head] | Head | Subject) -> None:
        """Test the requirement; any failure raises an AssertionError that names head and requirement."""
        subject = head if isinstance(head, Subject) else Subject.of(head)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.run(subject)
        except Exception as error:  # any exception of a head is a failure
            reason = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            raise AssertionError(f"{subject.card.name}: {self.promise}: {reason}") from error


def promise(text: str) -> Callable[[Callable[[Subject], None]], Check]:
    """Decorate a function as the check of a requirement."""
    return lambda run: Check(run.__name__, text, run)


def same(found: Any, expected: Any, tolerance: float = 1e-5, what: str = "scores") -> None:
    """Require scores to agree, relative to their size and their standard deviation over the rows."""
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    assert found.shape == expected.shape, f"{what} have shape {found.shape}, not {expected.shape}"
    if not found.size:
        return
    difference = np.abs(found - expected)
    allowed = tolerance * (np.abs(expected) + expected.std()) + 1e-12
    row = int(np.argmax(difference / allowed))
    assert (difference <= allowed).all(), (
        f"{what} differ, most at row {row}: {found[row]:.9g} instead of {expected[row]:.9g}"
    )


def refuses(
    kind: type[FeatoodError], what: str, action: Callable[..., Any], *args: Any, text: str = ""
) -> None:
    """Require a call to raise an error of a kind, with a message of one line that contains a text."""
    try:
        action(*args)
    except kind as error:
        message = str(error)
        assert message and "\n" not in message, f"the error message for {what} is not one line: {message!r}"
        assert text in message, f"the error message for {what} does not contain {text!r}: {message}"
    except Exception as error:
        found = f"{type(error).__name__} ({error})"
        raise AssertionError(f"{what} raises {found}, not {kind.__name__}") from error
    else:
        raise AssertionError(f"{what} is not refused")


def unchanged(found: FeatureSet, expected: FeatureSet, what: str = "column") -> None:
    """Require the columns of a set to be unchanged."""
    columns = {**expected.features, "logits": expected.logits}
    for name, values in {**found.features, "logits": found.logits}.items():
        assert np.array_equal(np.asarray(values), np.asarray(columns[name])), f"{what} {name} was changed"
