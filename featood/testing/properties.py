"""Properties of heads on drawn sets: what must hold whatever the rows, types, labels and sizes are."""

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
    """Require every test row to get a finite score, the same in any order and batch, or an error of one line.

    Returns
    -------
    Head or None
        The fitted head; None where it refused the rows.
    """
    try:
        head = subject.fit(train)
        head.score(test)
    except FeatoodError as error:
        assert str(error) and "\n" not in str(error), f"the refusal is not one line: {error!r}"
        return None
    scores = subject.score(head, test)
    again = subject.score(head, test)
    assert np.array_equal(scores, again), "the same rows get other scores"
    assert scores.shape == (len(test),), f"{len(test)} rows get scores of shape {scores.shape}"
    one = np.concatenate(
        [subject.score(head, test.rows(slice(row, row + 1))) for row in range(min(3, len(test)))]
    )
    close(one, scores[:3], scores, "scores of single rows")
    order = np.arange(len(test))[::-1]
    close(subject.score(head, test.rows(order)), scores[order], scores, "scores in another order")
    return head


def close(found: np.ndarray, expected: np.ndarray, scores: np.ndarray, what: str) -> None:
    """Require scores to agree up to rounding errors of single precision, relative to the largest."""
    allowed = 1e-5 * np.abs(scores).max(initial=0.0) + 1e-7
    worst = np.abs(found - expected).max(initial=0.0)
    assert worst <= allowed, f"{what} differ by {worst:.3g}, with scores of up to {np.abs(scores).max():.3g}"


def check_properties(head: str | type[Head] | Head, examples: int = 20, **options: Any) -> None:
    """Check that a head survives whatever sets may hold.

    Drawn are, for training and test rows each: constant, copied and dead columns, copied rows, one point, rank one,
    heavy tails, an offset of 1e4, scales from 1e-3 to 1e18, subnormals and the largest float16; float16, 32 and 64; one
    row, one feature, one class, more features than rows and more classes than rows; labels of every kind, or none.

    Parameters
    ----------
    head : str, class or Head
        As for :func:`featood.testing.check_head`.
    examples : int
        How many pairs of sets; always the same ones.
    **options
        Options to create it with.

    Raises
    ------
    AssertionError
        At a property that does not hold, with the smallest pair of sets that shows it.
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
