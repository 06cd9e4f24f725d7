"""Checks of scoring."""

from __future__ import annotations

__all__: list[str] = []

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.asking import ask
from featood.heads.base.fit import Fit
from featood.heads.base.head import WORST
from featood.testing.check import Subject, promise, refuses, same, unchanged
from featood.testing.fixture import Blockwise, mapped, replaced, with_main


@promise("outliers score higher than known rows")
def higher_is_out(subject: Subject) -> None:
    labels = np.asarray(subject.test.labels)
    known, outliers = subject.scores[labels >= 0], subject.scores[labels < 0]
    pairs = outliers[:, None] - known
    auroc = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert auroc > 0.5, f"AUROC is {auroc:.3f}"


@promise("all scores can be computed from the same fit")
def scores_by_name(subject: Subject) -> None:
    for which in subject.fitted.scores[1:]:
        # a training is repeated for one score only, as it takes long
        if subject.card.learns and (not subject.kind.trains or which == subject.fitted.scores[-1]):
            options = {**subject.fitted.options, "which": which}
            again = type(subject.fitted)(**options).fit(subject.train)
            for name, value in again.state.items():
                same(value, subject.fitted.state[name], what=f"{name} of a fit for the score '{which}'")
        scores = ask(subject.fitted, which).score(subject.test)
        assert np.isfinite(scores).all(), f"'{which}' gives scores that are not finite"
        assert not np.array_equal(scores, subject.scores), f"'{which}' is the default score by another name"


@promise("scores do not depend on the batch")
def batch_independent(subject: Subject) -> None:
    head, test, scores = subject.fitted, subject.test, subject.scores
    for size, rows in ((1, 6), (7, len(test))):
        parts = [head.score(test.rows(slice(start, start + size))) for start in range(0, rows, size)]
        same(np.concatenate(parts), scores[:rows], what=f"scores in batches of {size}")
    same(head.score(Blockwise.of(test)), scores, what="scores in blocks")


@promise("scores do not depend on the order of the rows")
def order_independent(subject: Subject) -> None:
    order = np.random.default_rng(1).permutation(len(subject.test))
    same(subject.fitted.score(subject.test.rows(order)), subject.scores[order])


@promise("scores depend on the values, not on their type")
def any_dtype(subject: Subject) -> None:
    head, test = subject.fitted, subject.test
    half = mapped(test, lambda values: values.astype(np.float16))
    widened = mapped(half, lambda values: values.astype(np.float32))
    same(subject.score(head, half), subject.score(head, widened), what="float16 scores")
    double = mapped(test, lambda values: values.astype(np.float64))
    same(subject.score(head, double), subject.scores, 1e-3, what="float64 scores")
    brain = mapped(test.to_torch(), lambda values: values.bfloat16())
    widened = mapped(brain, lambda values: values.float())
    same(subject.score(head, brain), subject.score(head, widened), what="bfloat16 scores")


@promise("scores do not depend on the memory layout")
def any_layout(subject: Subject) -> None:
    def read_only(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values.flags.writeable = False
        return values

    layouts: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "Fortran-ordered": np.asfortranarray,
        "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
        "non-contiguous": lambda values: np.repeat(values, 2, axis=1)[:, ::2],
        "read-only": read_only,
    }
    for what, layout in layouts.items():
        same(subject.fitted.score(mapped(subject.test, layout)), subject.scores, what=f"{what} scores")


@promise("NumPy in, NumPy out; torch in, torch out")
def kind_of_array(subject: Subject) -> None:
    scores = subject.fitted.score(subject.test)
    assert isinstance(scores, np.ndarray), f"NumPy in, {type(scores).__name__} out"
    assert scores.dtype == np.float64 and scores.shape == (len(subject.test),), scores.dtype
    tensors = mapped(subject.test.to_torch(), lambda values: values.clone().requires_grad_())
    scores = subject.fitted.score(tensors)
    assert isinstance(scores, torch.Tensor), f"torch in, {type(scores).__name__} out"
    assert scores.dtype == torch.float64 and not scores.requires_grad, "scores are float64 without gradient"
    same(scores, subject.scores, what="scores of tensors")


@promise("scoring does not change its input")
def input_unchanged(subject: Subject) -> None:
    for what, data in (("array", subject.test), ("tensor", subject.test.to_torch())):
        mine = mapped(data, lambda values: values + 0)
        subject.fitted.score(mine)
        unchanged(mine, data, what)


@promise("scoring reads only the columns listed in the card")
def reads_its_needs(subject: Subject) -> None:
    head, test = subject.fitted, subject.test
    names = [name for name in head.names(test, fitting=False) if name != "logits"]
    bare = FeatureSet(
        {name: test.features[name] for name in names},
        logits=test.logits if "logits" in subject.card.needs or not names else None,
        classifier=None if subject.card.learns else test.classifier,
        main=test.main if test.main in names else "",
    )
    same(head.score(bare), subject.scores)


@promise("one row and no rows can be scored")
def few_rows(subject: Subject) -> None:
    same(subject.fitted.score(subject.test.rows(slice(0, 1))), subject.scores[:1], what="score of one row")
    empty = subject.fitted.score(subject.test.rows(slice(0, 0)))
    assert empty.shape == (0,), f"no rows got scores of shape {empty.shape}"


@promise("a row that is not finite raises an error with its number, or gets the worst score on request")
def nonfinite_rows(subject: Subject) -> None:
    row = 17
    for bad in (np.nan, np.inf, -np.inf):
        nonfinite = mapped(subject.test, functools.partial(replaced, row=row, column=3, value=bad))
        refuses(DataError, f"{bad} in row {row}", subject.fitted.score, nonfinite, text=f"row {row}")
    dropping = subject.create(nonfinite="drop")
    dropping.adopt(Fit(subject.fitted.state, subject.fitted.record))
    found = dropping.score(nonfinite)
    assert found[row] == WORST, "the row did not get the worst score"
    same(np.delete(found, row), np.delete(subject.scores, row), what="scores of the other rows")


@promise("rows very far away, and rows of zeros, get finite scores")
def far_rows(subject: Subject) -> None:
    for factor in (1e6, 1e3, 1e-6, 0.0):
        far = mapped(subject.test, functools.partial(np.multiply, np.float32(factor)))
        # tokens are numbers of values, not measurements
        kept = {**far.features, "tokens": subject.test.features["tokens"]}
        far = dataclasses.replace(far, features=kept)
        subject.score(subject.fitted, with_main(far))
    certain = dataclasses.replace(subject.test, logits=1e4 * np.sign(np.asarray(subject.test.logits)))
    subject.score(subject.fitted, certain)
