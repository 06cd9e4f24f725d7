"""Heads whose fit is a sum over rows."""

from __future__ import annotations

__all__ = ["PartialSums", "StreamingHead"]

import dataclasses
from typing import Any, NamedTuple, Self

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.errors import DataError, UsageError
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import Fit, FitRecord, State
from featood.heads.base.notes import noted
from featood.heads.base.rows import SelectedRows
from featood.numerics.spaces import FITTED


class _Accumulating:
    _sums: PartialSums | None = None


@dataclasses.dataclass(kw_only=True, eq=False)
class StreamingHead(_Accumulating, FeatureHead):
    """A feature head whose fit is a sum over rows: one pass in flat memory, in any order, in any parts.

    Its labels are the classes' numbers, not their ranks, for parts may hold different classes.
    """

    def accumulate(self, statistics: Any, block: FeatureSet) -> Any:
        """Add a block to the statistics (None at the start) and return them."""
        raise NotImplementedError

    def finish(self, statistics: Any, train: SelectedRows) -> State:
        """Turn the statistics into tensors."""
        raise NotImplementedError

    @property
    def _ranks(self) -> bool:
        return False

    def adopt(self, fit: Fit) -> Self:
        """Take over a fit; what partial fits had added up is gone."""
        self._sums = None
        return super().adopt(fit)

    def fit_state(self, train: SelectedRows) -> State:
        """Pass over the rows once."""
        statistics = None
        for block in train.blocks():
            statistics = self.accumulate(statistics, block)
        return self.finish(statistics, train)

    def check_parts(self) -> None:
        """Refuse to fit by parts, with options that need all rows at once."""

    def partial_fit(self, part: Any, labels: Any = None, *, allow_repeat: bool = False) -> Self:
        """Add rows to what earlier calls added; parts in any order give the fit of the whole.

        A part is read twice: it is checked whole before any of its rows is added, so that one that is refused leaves
        the fit as it was.

        Parameters
        ----------
        part : FeatureSet or array
            Rows as `fit` takes them.
        labels : array, optional
            Class labels for plain features.
        allow_repeat : bool
            Add rows that were added before, all of them and in the same order, once more; they then count twice.

        Raises
        ------
        Mismatch
            When the rows come from another backbone than those before.
        UsageError
            On a head that was fitted whole, or loaded: only its tensors are kept, not its sums. At a part that
            was added before, by the digest of its values. In a space that must be fitted, which takes a pass over
            all rows before.
        DataError
            When there is no row to fit on yet, or rows are too few; those that were added nonetheless count.
        """
        if self.space in FITTED:
            raise UsageError(
                f"{self.name}: the space {self.space} must be fitted to all rows first; use fit, or space none or l2"
            )
        source = as_feature_set(part, labels)
        before = self._sums or PartialSums()
        if self._sums is None and self.learns and self.fitted:
            raise UsageError(
                f"{self.name} was fitted whole or loaded, and cannot go on from there; "
                "call partial_fit on a new head for every part"
            )
        self.check_parts()
        self.check_match(source)
        with noted() as notes:
            rows = self.select(source, fitting=True, device=self.device)
            digest = rows.digest()
            if digest in before.digests and not allow_repeat:
                raise UsageError(
                    f"{self.name}: {source.name} has the same rows as a part that was added before, and they would "
                    "count twice; leave it out, or mean it by allow_repeat=True"
                )
            statistics = before.statistics
            for block, _ in self.in_space(rows, {}).masked_blocks():
                if len(block):
                    statistics = self.accumulate(statistics, block)
            if statistics is None:
                raise DataError(f"{self.name}: {source.name} has no rows to fit on")
            sums = PartialSums(statistics, before.digests | {digest} - {""}, before.rows + len(source))
            # kept before the end: statistics may be added to in place, and count even if too few to finish
            self._sums = sums
            state = self.finish(statistics, rows)
        record = dataclasses.replace(FitRecord.of(source, rows, notes), rows=sums.rows)
        self.adopt(Fit(state, record, self.device))
        self._sums = sums
        return self


class PartialSums(NamedTuple):
    """What partial fits have added up."""

    statistics: Any = None
    digests: frozenset[str] = frozenset()
    """Of the parts, by which one that comes again is told."""
    rows: int = 0
