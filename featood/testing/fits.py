"""Checks of fitting."""

from __future__ import annotations

__all__: list[str] = []

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads.base.summed_head import SummedHead
from featood.testing.check import Subject, promise, refuses, same, unchanged
from featood.testing.fixture import Blockwise, mapped, replaced, with_main


@promise("a fit does not depend on the division of the rows into blocks")
def block_independent(subject: Subject) -> None:
    same(subject.score(subject.fit(Blockwise.of(subject.train)), subject.test), subject.scores)


@promise("a second fit does not depend on the first")
def fit_again(subject: Subject) -> None:
    head = subject.fit(mapped(subject.train, lambda values: 2 * values + 1))
    head.score(subject.test)
    scores = head.fit(subject.train).score(subject.test)
    assert np.array_equal(scores, subject.scores), "scores differ"


@promise("partial fits, of any parts in any order, are equal to a single fit")
def partial_fits(subject: Subject) -> None:
    if not issubclass(subject.kind, SummedHead):
        return
    train, n = subject.train, len(subject.train)
    ends = [0, 1, n // 3, n // 3, n]
    by_class = train.rows(np.argsort(np.asarray(train.labels), kind="stable"))
    for rows, what in ((train, "scores"), (by_class, "scores of parts of different classes")):
        head: Any = subject.create()
        for part in reversed(list(itertools.pairwise(ends))):
            head.partial_fit(rows.rows(slice(*part)))
        same(subject.score(head, subject.test), subject.scores, what=what)
        assert head.record.rows == n, f"the record counts {head.record.rows} rows, not {n}"
    whole: Any = subject.fit(train)
    refuses(UsageError, "partial_fit after fit", whole.partial_fit, train)


@promise("a fit does not change its input")
def fit_input_unchanged(subject: Subject) -> None:
    train = subject.train
    if not subject.card.takes_outliers:  # leaving rows out would copy the others
        train = train.rows(np.asarray(train.labels) >= 0)
    for data in (train, train.to_torch()):
        mine = mapped(data, lambda values: values + 0)
        subject.fit(mine)
        unchanged(mine, data)


@promise("a fit depends on the values, not on their type")
def fit_any_dtype(subject: Subject) -> None:
    half = mapped(subject.train, lambda values: values.astype(np.float16))
    widened = mapped(half, lambda values: values.astype(np.float32))
    expected = subject.score(subject.fit(widened), subject.test)
    same(subject.score(subject.fit(half), subject.test), expected, what="scores of a float16 fit")
    double = subject.fit(mapped(subject.train, lambda values: values.astype(np.float64)))
    same(subject.score(double, subject.test), subject.scores, 1e-3, what="scores of a float64 fit")


@promise("rows with a negative label are not used in the fit")
def negative_labels(subject: Subject) -> None:
    if subject.card.takes_outliers:
        return
    labels = np.asarray(subject.train.labels)
    known = subject.train.rows(labels >= 0)
    same(subject.score(subject.fit(known), subject.test), subject.scores)


@promise("a class may have one row, or none")
def sparse_classes(subject: Subject) -> None:
    train = subject.train
    labels = np.asarray(train.labels)
    missing = train.rows((labels != 0) & (labels != 3))
    subject.score(subject.fit(missing), subject.test)
    single = train.rows((labels != 2) | (np.arange(len(train)) == np.argmax(labels == 2)))
    subject.score(subject.fit(single), subject.test)


@promise("labels must be classes of the classifier, if there is one")
def labels_beyond(subject: Subject) -> None:
    if not subject.card.learns:
        return
    train = subject.train
    labels = np.asarray(train.labels)
    beyond = dataclasses.replace(train, labels=np.where(labels == 4, 100, labels))
    refuses(DataError, "label 100 of 5 classes", subject.fit, beyond, text="100")


@promise("without a classifier, scores do not depend on how classes are numbered")
def any_numbers(subject: Subject) -> None:
    train, test = subject.train, FeatureSet(subject.test.features, main=subject.test.main)
    if not subject.card.learns or {"logits", "classifier"} & set(subject.card.needs):
        return

    def scores(*numbers: int) -> np.ndarray:
        labels = np.asarray(train.labels)
        named = np.where(labels < 0, labels, np.array(numbers)[labels])
        head = subject.fit(FeatureSet(train.features, labels=named, main=train.main))
        return subject.score(head, test)

    plain = scores(0, 1, 2, 3, 4)
    same(scores(7, 12, 250_000, 900_000, 10**9), plain, what="scores of classes 7 to 10^9")
    if not subject.kind.trains:  # random numbers of a training depend on the order of the classes
        same(scores(10**9, 7, 900_000, 12, 250_000), plain, what="scores of classes in another order")


@promise("a class of the classifier without rows does not change scores")
def absent_classes(subject: Subject) -> None:
    if not subject.card.learns or {"logits", "classifier"} & set(subject.card.needs):
        return
    train = subject.train
    some = train.rows(~np.isin(np.asarray(train.labels), (0, 3)))
    plain = dataclasses.replace(some, logits=None, classifier=None)
    test = FeatureSet(subject.test.features, main=subject.test.main)
    same(subject.score(subject.fit(some), test), subject.score(subject.fit(plain), test))


@promise("a row that is not finite raises an error with its number, or is left out of the fit on request")
def fit_nonfinite_rows(subject: Subject) -> None:
    if not subject.card.learns:
        return
    row = int(np.argmax(np.asarray(subject.train.labels) >= 0))
    for bad in (np.inf, -np.inf, np.nan):
        nonfinite = mapped(subject.train, functools.partial(replaced, row=row, column=2, value=bad))
        refuses(DataError, f"{bad} in row {row}", subject.fit, nonfinite, text=f"row {row}")
    without = subject.fit(subject.train.rows(np.arange(len(subject.train)) != row))
    dropping = subject.fit(nonfinite, nonfinite="drop")
    same(subject.score(dropping, subject.test), subject.score(without, subject.test))


@promise("columns may be constant or copies of others")
def degenerate_columns(subject: Subject) -> None:
    def degenerate(data: FeatureSet) -> FeatureSet:
        def degenerate_values(values: np.ndarray) -> np.ndarray:
            values = values.copy()
            if values.shape[1] > 4:
                values[:, 0], values[:, 1], values[:, 2] = 0.0, 3.0, values[:, 4]
            return values

        return with_main(mapped(data, degenerate_values))

    head = subject.fit(degenerate(subject.train))
    subject.score(head, degenerate(subject.test))
    subject.score(head, subject.test)


@promise("a fit on few rows gives finite scores or raises an error")
def too_few_rows(subject: Subject) -> None:
    known = subject.train.rows(np.asarray(subject.train.labels) >= 0)
    for rows in (15, 2, 1):
        try:
            head = subject.fit(known.rows(slice(0, rows)))
        except FeatoodError:
            continue
        subject.score(head, subject.test)
    if not subject.card.learns:
        return
    refuses(DataError, "a fit on no rows", subject.fit, known.rows(slice(0, 0)))
    unknown = dataclasses.replace(known, labels=np.full(len(known), -1))
    refuses(DataError, "a fit on outliers only", subject.fit, unknown)


@promise("a missing column that the head needs raises an error that names it")
def missing_columns(subject: Subject) -> None:
    needs, train = subject.card.needs, subject.train
    for need in {"logits", "labels", "classifier"} & set(needs) if subject.card.learns else ():
        without: dict[str, Any] = {need: None}
        bare = dataclasses.replace(train, **without)
        refuses(DataError, f"a fit without {need}", subject.fit, bare, text=need)
    if "logits" in needs:
        bare = dataclasses.replace(subject.test, logits=None)
        refuses(FeatoodError, "scoring without logits", subject.fitted.score, bare, text="logits")
    if "features" in needs:
        bare = FeatureSet(logits=subject.test.logits)
        refuses(FeatoodError, "scoring without features", subject.fitted.score, bare)
