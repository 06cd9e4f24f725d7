"""Scoring every head there is: those not fitted yet are fitted, those that cannot be are named."""

from __future__ import annotations

__all__ = ["score_all"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from featood.errors import DataError, UsageError
from featood.heads import create_head, head_class, list_heads
from featood.heads.base.head import Head
from featood.heads.compositions._composition import Composition
from featood.heads.compositions._members import create_member
from featood.pipeline.comparison import Uncertainty
from featood.pipeline.evidence import within
from featood.pipeline.fitting import find_heads, fit_head, get_head
from featood.pipeline.scoring import Scoring, open_sets, score_heads
from featood.pipeline.selection import Selection


class EveryHead(Mapping[str, Head]):
    """All registered heads and all fitted ones by name, each loaded or fitted (and saved) when it is asked for.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    progress, say
        See :func:`featood.pipeline.fitting.fit_head`.
    training : bool
        Whether to fit those that train a network as well; without it, asking for one raises UsageError.
    """

    def __init__(
        self,
        selection: Selection,
        progress: Callable[..., None] | None,
        say: Callable[[str], None],
        training: bool = False,
    ) -> None:
        self._selection, self._progress, self._say = selection, progress, say
        self._training = training
        self._fitted = find_heads(selection)
        self._names = list(dict.fromkeys([*list_heads(), *self._fitted]))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> Head:
        if name in self._fitted or not head_class(name).card.learns:
            return get_head(self._selection, name, self._say)

        head = create_head(name)
        names = head.members if isinstance(head, Composition) else ()
        members = [create_member(text, "error") for text in names]
        unfitted = [part.name for part in members or [head] if part.trains and part.name not in self._fitted]
        if unfitted and not self._training:
            raise UsageError(
                f"{name} trains a network, which takes minutes: fit {', '.join(unfitted)} first, or add --training"
            )

        def report(step: int, total: int, **figures: float) -> None:
            if self._progress is not None:
                self._progress(f"training {name}", step, total, **figures)

        return fit_head(self._selection, name, progress=report, say=self._say)[0]


def score_all(
    selection: Selection,
    outliers: Sequence[str],
    suites: Sequence[str] = (),
    split: str = "",
    data_dir: str | None = None,
    force: bool = False,
    training: bool = False,
    progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    intervals: Uncertainty | None = None,
) -> Scoring:
    """Score every head that the cached columns can serve, fitting with default options those not fitted yet.

    A head that needs what the cache does not hold, or ends with an error of featood's own, is left out: its
    name and the reason stand under ``skipped`` in the results.

    Parameters
    ----------
    selection, outliers, suites, split, data_dir, force, progress, say, intervals
        See :func:`featood.pipeline.scoring.score_selection`.
    training : bool
        Whether to fit heads that train a network as well.

    Raises
    ------
    DataError
        When no head could be scored.
    """
    test, sets, missing = open_sets(selection, outliers, suites, split, data_dir, progress, say)
    heads = EveryHead(selection, progress, say, training)
    say(f"scoring all {len(heads)} heads on {test.name} ({len(test)} rows)")
    scoring = score_heads(heads, test, sets, force, progress, skip_errors=True, intervals=intervals)
    scoring.results["warnings"] += missing
    within(scoring.results["evidence"], selection.cache.root)
    if not scoring.results["rows"]:
        first: dict[str, Any] = scoring.results["skipped"][0]
        raise DataError(f"none of the {len(heads)} heads could be scored; {first['head']}: {first['reason']}")
    return scoring
