"""Confidence intervals of results, and tests of which heads differ."""

from __future__ import annotations

__all__ = ["Comparison", "Uncertainty"]

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from featood.errors import UsageError
from featood.metrics import (
    METRICS,
    Difference,
    Placements,
    best_of,
    bootstrap_difference,
    bootstrap_draws,
    delong_difference,
    delong_interval,
    holm,
    percentiles,
    placements,
    rank_heads,
)
from featood.pipeline.result_rows import ResultRow
from featood.pipeline.variant_labels import repeated_label
from featood.reporter import SILENT, Reporter

Value = TypeVar("Value")

MEAN = "mean"
"""Name of the set in tests of the mean over all sets."""


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """How the intervals of a comparison are computed."""

    method: str = "delong"
    """``delong``: DeLong's formula, for AUROC only; ``bootstrap``: resampling of the rows, for every metric."""
    level: float = 0.95
    """Confidence level of intervals and tests, in (0, 1)."""
    resamples: int = 1000
    """Number of resamples of the bootstrap."""
    seed: int = 0
    """Seed of the resamples."""

    def __post_init__(self) -> None:
        if self.method not in ("delong", "bootstrap"):
            raise UsageError(f"intervals are computed by delong or bootstrap, not {self.method!r}")
        if not 0 < self.level < 1 or self.resamples < 1:
            raise UsageError(
                f"intervals need a confidence between 0 and 100 % and at least one resample, got {self.level:.0%} "
                f"and {self.resamples}"
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that get an interval."""
        return ("auroc",) if self.method == "delong" else tuple(METRICS)

    def as_json(self) -> dict[str, Any]:
        """Return the settings that reproduce the intervals."""
        body = dataclasses.asdict(self)
        return body if self.method == "bootstrap" else {key: body[key] for key in ("method", "level")}


class Comparison:
    """Intervals of the metrics of heads scored on the same sets, and tests of which heads differ.

    Parameters
    ----------
    how : Uncertainty
        How intervals are computed.
    """

    def __init__(self, how: Uncertainty) -> None:
        self.how = how
        self._rows: dict[str, list[ResultRow]] = {}
        self._placements: dict[str, list[Placements]] = {}
        self._draws: dict[str, list[np.ndarray]] = {}

    def add(
        self, label: str, id_scores: np.ndarray, scores: Sequence[np.ndarray], rows: Sequence[ResultRow]
    ) -> list[ResultRow]:
        """Add a head's scores on the ID set and on each OOD set; return its result rows with intervals."""
        self._rows[label] = list(rows)
        self._placements[label] = [placements(id_scores, values) for values in scores]
        if self.how.method == "bootstrap":
            self._draws[label] = [
                bootstrap_draws(
                    id_scores, values, self.how.metrics, self.how.resamples,
                    # a resample has the same ID rows for all sets and heads, and the same OOD rows for all heads
                    id_generator=np.random.default_rng([self.how.seed]),
                    ood_generator=np.random.default_rng([self.how.seed, *row.ood.encode()]),
                )
                for row, values in zip(rows, scores, strict=True)
            ]  # fmt: skip
        return [
            dataclasses.replace(row, intervals=self._intervals(label, [position]))
            for position, row in enumerate(rows)
        ]

    def as_json(self, groups: Iterable[Sequence[str]] = (), reporter: Reporter = SILENT) -> dict[str, Any]:
        """Return the settings of the intervals, the intervals of the means, the tests and the ranking.

        Parameters
        ----------
        groups : iterable of sequence of str
            Names of sets whose mean gets an interval, too.
        reporter : Reporter
            Receives the number of finished tests.

        Returns
        -------
        dict
            ``means``: intervals of each head's mean over the sets, if there are several; ``groups``: those of the means
            over groups of sets. ``tests``: each head against
            the best head, for each metric, on each set and on the mean; ``difference`` is
            metric(head) - metric(best), and ``p_holm`` is corrected for all pairs of heads, which accounts for the
            choice of the best. ``ranking``: Friedman's test of AUROC over the sets, and the cliques. ``untested``:
            what could not be tested because there are too few sets or heads.
        """
        count = len(next(iter(self._rows.values()), ()))
        every = list(range(count))
        body: dict[str, Any] = self.how.as_json()
        body["means"] = [
            {"head": label, "sets": [row.ood for row in rows], **self._intervals(label, every)}
            for label, rows in self._rows.items()
            if count > 1
        ]
        names = [row.ood for row in next(iter(self._rows.values()), ())]
        body["groups"] = [
            {
                "head": label,
                "sets": list(group),
                **self._intervals(label, [names.index(name) for name in group]),
            }
            for group in groups
            for label in self._rows
        ]
        sets = [*([position] for position in range(count)), *([every] if count > 1 else [])]
        body["tests"] = []
        for position, (chosen, metric) in enumerate(
            wanted := list(itertools.product(sets, self.how.metrics))
        ):
            reporter.progress("comparing heads", position, len(wanted))
            body["tests"] += self._tests(chosen, metric)
        reporter.progress("comparing heads", len(wanted), len(wanted))
        ranking, untested = self._ranking(count)
        if ranking:
            body["ranking"] = ranking
        body["untested"] = untested
        return body

    def _estimate(self, label: str, metric: str, sets: Sequence[int]) -> float:
        return float(np.mean([row.metrics[metric] for row in _at(self._rows[label], sets)]))

    def _intervals(self, label: str, sets: Sequence[int]) -> dict[str, float]:
        """Return the bounds of the intervals of the metrics on one set, or of their means over several."""
        if self.how.method == "delong":
            _, low, high = delong_interval(
                Placements.mean(_at(self._placements[label], sets)), self.how.level
            )
            return {"auroc_low": low, "auroc_high": high}
        draws = np.mean(_at(self._draws[label], sets), 0)
        bounds = zip(self.how.metrics, *percentiles(draws, self.how.level), strict=True)
        return {
            key: float(value)
            for metric, low, high in bounds
            for key, value in ((f"{metric}_low", low), (f"{metric}_high", high))
        }

    def _difference(self, first: str, second: str, metric: str, sets: Sequence[int]) -> Difference:
        if self.how.method == "delong":
            ours, theirs = (Placements.mean(_at(self._placements[label], sets)) for label in (first, second))
            return delong_difference(ours, theirs, self.how.level)
        row = self.how.metrics.index(metric)
        draws = np.mean([part[row] for part in _at(self._draws[first], sets)], 0)
        draws = draws - np.mean([part[row] for part in _at(self._draws[second], sets)], 0)
        estimate = self._estimate(first, metric, sets) - self._estimate(second, metric, sets)
        return bootstrap_difference(estimate, draws, self.how.level)

    def _tests(self, sets: Sequence[int], metric: str) -> list[dict[str, Any]]:
        """Test every head against the best, on one set or on the mean over several."""
        values = {label: self._estimate(label, metric, sets) for label in self._rows}
        if len(values) < 2:
            return []
        best = best_of(values, metric)
        # the best head is chosen on the same rows, so the correction counts all pairs, not only pairs with the best
        pairs = list(itertools.combinations(values, 2))
        found = {pair: self._difference(*pair, metric, sets) for pair in pairs}
        corrected = dict(zip(pairs, holm([found[pair].p for pair in pairs]).tolist(), strict=True))
        rows = _at(next(iter(self._rows.values())), sets)
        tests = []
        for label in values:
            if label == best:
                continue
            pair = (label, best) if (label, best) in found else (best, label)
            difference, low, high, p = found[pair]
            if pair[0] == best:
                difference, low, high = -difference, -high, -low
            tests.append(
                {
                    "ood": rows[0].ood if len(rows) == 1 else MEAN,
                    "metric": metric,
                    "head": label,
                    "best": best,
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "p": p,
                    "p_holm": corrected[pair],
                }
            )
        return tests

    def _ranking(self, count: int) -> tuple[dict[str, Any], list[str]]:
        """Rank heads over the sets by AUROC; a head fitted with several seeds counts once, by its mean."""
        groups: dict[str, list[str]] = {}
        for label in self._rows:
            groups.setdefault(repeated_label(label) or label, []).append(label)
        heads = {group if len(labels) > 1 else labels[0]: labels for group, labels in groups.items()}
        untested = []
        if len(self._rows) < 2:
            untested.append("with one head, there is nothing to compare")
        if count < 3 or len(heads) < 3:
            untested.append(
                f"the test of ranks over sets (Friedman) needs at least three sets and three heads; there are {count} "
                f"and {len(heads)}"
            )
            return {}, untested
        values = np.array(
            [[np.mean([self._rows[label][column].metrics["auroc"] for label in labels]) for labels in heads.values()]
             for column in range(count)]
        )  # fmt: skip
        ranking, names = rank_heads(values, self.how.level), list(heads)
        return {
            "metric": "auroc",
            "sets": [row.ood for row in next(iter(self._rows.values()))],
            "statistic": ranking.statistic,
            "p": ranking.p,
            "mean_ranks": dict(zip(names, ranking.mean_ranks.tolist(), strict=True)),
            "cliques": [[names[index] for index in clique] for clique in ranking.cliques],
        }, untested


def _at(values: Sequence[Value], positions: Sequence[int]) -> list[Value]:
    return [values[position] for position in positions]
