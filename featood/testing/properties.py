"""Properties of heads on random sets, for all rows, types, labels and sizes."""

from __future__ import annotations

__all__ = ["check_properties", "survives"]

import warnings
from typing import Any

import numpy as np

from featood.cache import FeatureSet
from featood.errors import FeatoodError
from featood.heads.base.head import Head
from featood.testing.check import Subject
from featood.testing.drawing import hypothesis, st
from featood.testing.extras import with_extras
from featood.testing.strategies import set_pairs


def survives(subject: Subject, train: FeatureSet, test: FeatureSet) -> Head | None:
    """Require finite scores that do not depend on order and batches, or an error with a message of one line.

    Returns
    -------
    Head or None
        The fitted head, or None if it raised an error.
    """
    try:
        head = subject.fit(train)
        head.score(test)
    except FeatoodError as error:
        assert str(error) and "\n" not in str(error), f"the error message is not one line: {error!r}"
        return None
    scores = subject.score(head, test)
    again = subject.score(head, test)
    assert np.array_equal(scores, again), "scores of the same rows differ"
    assert scores.shape == (len(test),), f"{len(test)} rows get scores of shape {scores.shape}"
    one = np.concatenate(
        [subject.score(head, test.rows(slice(row, row + 1))) for row in range(min(3, len(test)))]
    )
    close(one, scores[:3], scores, "scores of single rows")
    order = np.arange(len(test))[::-1]
    close(subject.score(head, test.rows(order)), scores[order], scores, "scores in another order")
    return head


def close(found: np.ndarray, expected: np.ndarray, scores: np.ndarray, what: str) -> None:
    """Require scores to agree up to float32 rounding errors, relative to the largest score."""
    allowed = 1e-5 * np.abs(scores).max(initial=0.0) + 1e-7
    worst = np.abs(found - expected).max(initial=0.0)
    assert worst <= allowed, f"{what} differ by {worst:.3g}, with scores of up to {np.abs(scores).max():.3g}"


def check_properties(head: str | type[Head] | Head, examples: int = 20, **options: Any) -> None:
    """Check a head on random sets with unusual content.

    Training and test rows include constant, copied and zero columns, copied rows, identical rows, rank one, heavy
    tails, an offset of 1e4, scales from 1e-3 to 1e18, subnormal numbers and the largest float16; types float16, 32 and
    64; one row, one feature, one class, more features than rows and more classes than rows; labels of all kinds, or
    none.

    Parameters
    ----------
    head : str, class or Head
        See :func:`featood.testing.check_head`.
    examples : int
        Number of pairs of sets, which are the same in every run.
    **options
        Options of the head.

    Raises
    ------
    AssertionError
        If a property does not hold, with the smallest pair of sets for which it fails.
    """
    subject = Subject.of(head, **options)
    many = set_pairs(rows=st.integers(8, 30), labels="classes", logits=True, classifier=True)

    @hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(many | set_pairs(logits=True, classifier=True))
    def holds(pair: tuple[FeatureSet, FeatureSet]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            survives(subject, *(with_extras(data) for data in pair))

    holds()
