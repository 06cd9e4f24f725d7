"""Scoring all heads: unfitted heads are fitted first, and those that cannot be used are reported."""

from __future__ import annotations

__all__ = ["AllHeads", "score_all"]

from collections.abc import Iterator, Mapping, Sequence

from featood.errors import DataError, UsageError
from featood.heads import create_head, head_class, list_heads
from featood.heads.base.head import Head
from featood.numerics.sharing import sharing
from featood.pipeline.evidence import make_relative
from featood.pipeline.fitted_heads import find_heads, get_head
from featood.pipeline.fitting import fit_head
from featood.pipeline.resolve import find_test_sets
from featood.pipeline.scoring import ScorePlan, Scoring, score
from featood.pipeline.selection import Selection
from featood.reporter import SILENT, Reporter


class AllHeads(Mapping[str, Head]):
    """All registered and all fitted heads by name, loaded, or fitted and saved, on access.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    training : bool
        Whether to also fit heads that train a network; if False, access to one raises UsageError.
    reporter : Reporter
        Receives a line about each choice made, and the progress of trainings.
    """

    def __init__(self, selection: Selection, *, training: bool = False, reporter: Reporter = SILENT) -> None:
        self._selection, self._training, self._reporter = selection, training, reporter
        self._fitted = find_heads(selection)
        self._names = list(dict.fromkeys([*list_heads(), *self._fitted]))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> Head:
        if name in self._fitted or not head_class(name).card.learns:
            return get_head(self._selection, name, self._reporter)
        head = create_head(name)
        members = head.create_members()
        unfitted = [part.name for part in members or [head] if part.trains and part.name not in self._fitted]
        if unfitted and not self._training:
            raise UsageError(
                f"{name} trains a network, which takes minutes: fit {', '.join(unfitted)} first, or add --training"
            )
        return fit_head(self._selection, name, reporter=self._reporter)[0]


def score_all(
    selection: Selection,
    outliers: Sequence[str],
    suites: Sequence[str] = (),
    how: ScorePlan = ScorePlan(),  # noqa: B008  (frozen)
    *,
    training: bool = False,
    reporter: Reporter = SILENT,
) -> Scoring:
    """Score every head whose inputs are in the cache, fitting unfitted ones with default options.

    A head whose inputs are missing, or that raises an error of featood, is left out, and listed with the reason
    under ``skipped`` in the results.

    Parameters
    ----------
    selection, outliers, suites, how, reporter
        See :func:`featood.pipeline.scoring.score_selection`.
    training : bool
        Whether to also fit heads that train a network.

    Raises
    ------
    DataError
        If no head could be scored.
    """
    sets = find_test_sets(
        selection, outliers, suites, shifted=how.shifted, split=how.split, limit=how.limit, reporter=reporter
    )
    heads = AllHeads(selection, training=training, reporter=reporter)
    reporter.line(f"scoring all {len(heads)} heads on {sets.in_distribution}")
    with sharing():
        scoring = score(
            heads, sets.test, sets.outliers, shifted=sets.shifted, force=how.force, skip_errors=True,
            suites=suites, intervals=how.intervals, engine=selection.engine, reporter=reporter,
        )  # fmt: skip
    scoring.results["warnings"] += sets.warnings
    make_relative(scoring.results["evidence"], selection.cache.root)
    if not scoring.results["rows"]:
        first = scoring.results["skipped"][0]
        raise DataError(f"none of the {len(heads)} heads could be scored; {first['head']}: {first['reason']}")
    return scoring
