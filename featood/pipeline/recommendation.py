"""Which heads to use, predicted without out-of-distribution data."""

from __future__ import annotations

__all__ = [
    "Recommendation",
    "Recommended",
    "candidates",
    "choose_members",
    "near_best",
    "recommend",
    "recommend_heads",
    "try_heads",
]

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads import create_head, head_class, list_heads
from featood.heads.base.fit import FitContext
from featood.heads.base.head import Head
from featood.heads.compositions._members import split_member
from featood.metrics import auroc
from featood.pipeline.derived_sets import hold_out, limited, validation_rows
from featood.pipeline.presets import choose_preset, options_for_tables
from featood.pipeline.selection import Selection
from featood.pipeline.trials import CROSSED, SCALED, UNSEEN, Trial, make_trials
from featood.reporter import SILENT, Reporter

HELD_OUT = 0.2
"""Share of the training rows that are held out, if there is no validation split."""
ROWS = 10_000
"""Default number of training rows to use."""
BUDGET = 600.0
"""Default seconds for all heads."""
ALIKE = 0.95
"""Rank correlation of the scores of two heads from which on one adds little to the other."""
SLOW, LEAST_TIME = 10.0, 0.01
"""A head is slow that takes so many times as long as the best, or as so many seconds, for a fit and 1,000 scores."""
POOL = 8
"""Number of the best heads among which the members of a composition are chosen."""


@dataclasses.dataclass(frozen=True)
class Recommended:
    """One head, and what the trials say about it."""

    label: str
    """Name and options, as for ``--heads``."""
    head: Head
    """The head, unfitted."""
    auroc: Mapping[str, Sequence[float]]
    """AUROC of each trial, by kind."""
    place: float
    """Its place among all heads, 1 = best, by the mean AUROC of the trials that count."""
    fit_s: float
    """Seconds of the fit on the rows that are not held out."""
    score_ms: float
    """Milliseconds to score a row, with the time to build an index if it has one."""
    size_mb: float
    """Size of the fitted tensors."""
    like: str = ""
    """A head further up that ranks the rows almost alike."""
    reason: str = ""
    """What speaks for it and against it, in words."""
    scores: np.ndarray = dataclasses.field(repr=False, default_factory=lambda: np.zeros(0))
    """Ranks of the scores within each trial, scaled to mean zero and norm one; all trials in one array."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields, with the name and options of the head, and without the scores."""
        body = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        head = body.pop("head")
        del body["scores"]
        return {"head": head.name, "options": head.options, **body}


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """Heads in the order of the criterion, and what it rests on."""

    rows: list[Recommended]
    """The heads, the best first."""
    skipped: Mapping[str, str]
    """Why a head was left out, by its label."""
    criterion: tuple[str, ...]
    """Kinds of the trials that count; the mean place counts if there are several."""
    on: str
    """The rows that were fitted on and held out."""

    def as_json(self) -> dict[str, Any]:
        """Return ``on``, ``criterion``, ``heads`` and ``skipped``."""
        skipped = [{"label": label, "reason": reason} for label, reason in self.skipped.items()]
        heads = [row.as_json() for row in self.rows]
        return {"on": self.on, "criterion": self.criterion, "heads": heads, "skipped": skipped}


def recommend(
    train: FeatureSet,
    held: FeatureSet | None = None,
    names: Sequence[str] = (),
    *,
    limit: int = ROWS,
    budget: float = BUDGET,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Recommendation:
    """Rank heads by how well they detect held-out classes; this predicts, and does not measure, real detection.

    Each head is fitted five times, each time without a fifth of the classes, and tells held-out rows of these classes
    from the others. Heads that are within one standard error of the best come first, in the order in which they detect
    rows that are crossed from two others. If the heads that detect unseen classes best are among the worst for rows of
    small norm (a negative rank correlation between the two), outliers may be of either kind, and the mean of both
    places counts. Without classes, only crossed rows count, which predicts less well. See
    :func:`featood.pipeline.trials.make_trials`.

    Parameters
    ----------
    train : FeatureSet
        In-distribution rows.
    held : FeatureSet, optional
        In-distribution rows that are not in `train`, best those that the network was not trained on either; by default
        a fifth of the rows of `train`, held out.
    names : sequence of str
        Heads, with options as in ``knn k=50``; by default all that do not train a network.
    limit : int
        Number of rows to use of each set, evenly spaced; 0 for all.
    budget : float
        Seconds after which no further head is begun; a head whose remaining fits would exceed it is left out, too.
    seed : int
        Seed of the held-out rows and of the trials.
    reporter : Reporter
        Receives a line about the rows, and the progress.

    Raises
    ------
    UsageError
        If a head or an option is unknown.
    DataError
        If a set has no features or too few rows, a named head lacks an input, or no head could be tried.

    Example
    -------
    >>> from featood.pipeline.recommendation import recommend
    >>> from featood.testing.fixture import synthetic_sets
    >>> train, _ = synthetic_sets()
    >>> recommend(train, names=["mahalanobis", "norm"]).rows[0].label
    'mahalanobis'
    """
    heads, skipped = candidates(train, names)
    if train.logits is None and not names:
        reporter.line(
            f"{train.name} has no logits: heads that need them are not tried (featood cache add-classifier adds them)"
        )
    if held is None:
        train, held = hold_out(train, HELD_OUT, seed)
    if limit:
        train, held = limited(train, limit), limited(held, limit)
    on = f"{len(train)} rows of {train.name} and {len(held)} others of {held.name}"
    reporter.line(f"trying {len(heads)} heads on {on}")
    read = {name for head in heads.values() for name in head.names(train, fitting=True)}
    columns = (train.main, "logits", "labels", *read)
    trials = make_trials(train.select(*columns), held.select(*columns), seed)
    rows, criterion, failed = try_heads(heads, trials, budget=budget, reporter=reporter)
    return Recommendation(rows, {**skipped, **failed}, criterion, on)


def recommend_heads(
    selection: Selection,
    names: Sequence[str] = (),
    *,
    split: str = "",
    limit: int = ROWS,
    budget: float = BUDGET,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Recommendation:
    """Rank heads by name on a split of the cache, by default ``train``; see :func:`recommend`.

    Rows are held out of it, unless there is a validation split. The test split is never read.

    Raises
    ------
    UsageError
        If the split is the one that is used for tests; see also :func:`recommend`.
    DataError
        If it is not in the cache; see also :func:`recommend`.
    """
    train = selection.open(selection.train_split(split))
    kept, held, _ = validation_rows(selection, train, HELD_OUT, seed)
    return recommend(kept, held, names, limit=limit, budget=budget, seed=seed, reporter=reporter)


def try_heads(
    heads: Mapping[str, Head],
    trials: Sequence[Trial],
    *,
    budget: float = math.inf,
    reporter: Reporter = SILENT,
) -> tuple[list[Recommended], tuple[str, ...], dict[str, str]]:
    """Fit and score heads on trials.

    Parameters
    ----------
    heads : mapping of str to Head
        Unfitted heads by label; they remain unfitted.
    trials : sequence of Trial
        Those with the same training rows follow each other.
    budget, reporter
        See :func:`recommend`.

    Returns
    -------
    list of Recommended
        The heads, the best first.
    tuple of str
        Kinds of the trials that count.
    dict
        Why a head was left out, by its label.

    Raises
    ------
    DataError
        If no head could be tried; the message says why the first could not.
    """
    end = time.monotonic() + budget
    found: dict[str, _Tried] = {}
    skipped: dict[str, str] = {}
    for position, (label, head) in enumerate(heads.items()):
        reporter.progress("trying heads", position, len(heads))
        try:
            found[label] = _try(head, trials, end, reporter)
        except FeatoodError as error:
            skipped[label] = str(error)
    if not found:
        first = next((f"; {label}: {reason}" for label, reason in skipped.items()), "")
        raise DataError(f"none of the {len(heads)} heads could be tried{first}")
    values = {
        kind: [float(np.mean(one.auroc[kind])) for one in found.values()]
        for kind in dict.fromkeys(trial.kind for trial in trials)
    }
    criterion = choose_criterion(values)
    places = np.mean([rankdata([-value for value in values[kind]]) for kind in criterion], axis=0)
    rows = [
        Recommended(label, heads[label], one.auroc, float(place), *one.costs, scores=one.scores)
        for (label, one), place in zip(found.items(), places, strict=True)
    ]
    first = criterion[0]
    rows.sort(key=lambda row: (row.place, -np.mean(row.auroc[first]), row.fit_s + row.score_ms))
    if criterion == (UNSEEN,):
        near = near_best([row.auroc[UNSEEN] for row in rows])
        tied = {row.head for row, is_near in zip(rows, near, strict=True) if is_near}
        rows.sort(key=lambda row: -np.mean(row.auroc[CROSSED]) if row.head in tied else math.inf)
    return _explained(rows, first), criterion, skipped


def choose_criterion(values: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return the kinds of trials that count, from the mean AUROC of each head in each kind; see :func:`recommend`."""
    if UNSEEN not in values:
        return (CROSSED,)
    ranks = [_standardised(np.array(values[kind])) for kind in (UNSEEN, SCALED)]
    return (UNSEEN, SCALED) if ranks[0] @ ranks[1] < 0 else (UNSEEN,)


def near_best(auroc: Sequence[Sequence[float]]) -> np.ndarray:
    """Return whether each head is worse than the best by at most one standard error.

    The standard error is that of the mean difference from the best over the trials.

    Parameters
    ----------
    auroc : sequence of sequence of float
        ``[heads, trials]``.
    """
    values = np.asarray(auroc)
    worse = values[values.mean(1).argmax()] - values
    error = worse.std(1, ddof=1) / math.sqrt(worse.shape[1]) if worse.shape[1] > 1 else 0.0
    return worse.mean(1) <= error


def candidates(train: FeatureSet, names: Sequence[str] = ()) -> tuple[dict[str, Head], dict[str, str]]:
    """Create heads by name, with the settings of ``featood fit``, and say which cannot be used, and why.

    Parameters
    ----------
    train : FeatureSet
        The in-distribution set.
    names : sequence of str
        Heads, with options as in ``knn k=50``; by default all that do not train a network.
    """
    heads, skipped = {}, {}
    for text in names or list_heads():
        name, options = split_member(text)
        cls = head_class(name)
        if cls.composes or (cls.trains and not names):
            skipped[text] = "composes other heads" if cls.composes else "trains a network: name it to try it"
            continue
        preset = options.pop("preset", None) or choose_preset(name, train)[0]
        tabular, _ = options_for_tables(name, train, preset, options)
        head = create_head(name, preset, **tabular, **options)
        try:
            head.select(train, fitting=True)
        except FeatoodError as error:
            if names:
                raise
            skipped[text] = str(error)
        else:
            heads[text] = head
    return heads, skipped


def choose_members(rows: Sequence[Recommended], count: int = 3) -> list[Recommended]:
    """Return diverse heads for a composition.

    The best head comes first. Then, of the eight best, the one whose scores are correlated least with those chosen, by
    its largest rank correlation within trials.

    Parameters
    ----------
    rows : sequence of Recommended
        The best first.
    count : int
        Number of heads.
    """
    pool = [row for row in rows if not row.like][:POOL]
    chosen, rest = pool[:1], pool[1:]
    while rest and len(chosen) < count:
        least = min(rest, key=lambda row: max(correlation(row, other) for other in chosen))
        rest.remove(least)
        chosen.append(least)
    return chosen


def correlation(first: Recommended, second: Recommended) -> float:
    """Return the rank correlation of the scores of two heads, averaged over the trials."""
    return float(first.scores @ second.scores)


class _Tried(NamedTuple):
    auroc: dict[str, list[float]]
    scores: np.ndarray
    costs: tuple[float, float, float]


def _try(head: Head, trials: Sequence[Trial], end: float, reporter: Reporter) -> _Tried:
    """Fit a head once for all trials with the same training rows, and score the rows of each trial."""
    found = _Tried(defaultdict(list), np.zeros(0), (0.0, 0.0, 0.0))
    ranks, train, begun = [], None, time.monotonic()
    for done, trial in enumerate(trials):
        start = time.monotonic()
        if max(start, begun + (start - begun) * len(trials) / max(done, 1)) > end:
            raise UsageError("not enough time; raise the budget, or name it alone")
        if trial.train is not train:
            train, fitted = trial.train, dataclasses.replace(head)
            if head.learns:
                fitted.fit(train, context=FitContext(reporter.task(f"training {head.name}")))
        middle = time.monotonic()
        parts = [np.asarray(fitted.score(rows)) for rows in (trial.known, trial.outliers)]
        if not done:
            a_row = (time.monotonic() - middle) / sum(map(len, parts))
            size = sum(tensor.nbytes for tensor in fitted.state.values())
            found = found._replace(costs=(middle - start, 1000 * a_row, size / 1e6))
        found.auroc[trial.kind].append(auroc(*parts))
        ranks.append(_standardised(np.concatenate(parts)))
    return found._replace(scores=np.concatenate(ranks) / math.sqrt(len(trials)))


def _standardised(scores: np.ndarray) -> np.ndarray:
    centred = rankdata(scores) - (len(scores) + 1) / 2
    return centred / max(float(np.linalg.norm(centred)), 1e-12)


def _explained(rows: Sequence[Recommended], kind: str) -> list[Recommended]:
    """Add to each head the first further up that ranks the rows almost alike, and the reasons."""
    found: list[Recommended] = []
    for row in rows:
        like = next(
            (other.label for other in found if not other.like and correlation(row, other) > ALIKE), ""
        )
        own, best = row.auroc[kind], rows[0].auroc[kind]
        if row is rows[0]:
            reasons = [f"{100 * min(own):.1f} to {100 * max(own):.1f} in {len(own)} trials"]
        else:
            worse = sum(mine < theirs for mine, theirs in zip(own, best, strict=True))
            reasons = [f"{rows[0].label} is better in {worse} of {len(own)} trials"]
        if like:
            reasons.append(f"ranks rows as {like}")
        times = (row.fit_s + row.score_ms) / max(rows[0].fit_s + rows[0].score_ms, LEAST_TIME)
        if times > SLOW:
            reasons.append(f"{times:.0f} times as slow")
        found.append(dataclasses.replace(row, like=like, reason="; ".join(reasons)))
    return found
