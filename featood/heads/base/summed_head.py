"""Base class of heads whose fit is a sum over rows, and which can therefore be fitted by parts."""

from __future__ import annotations

__all__ = ["PartialSums", "SummedHead"]

import dataclasses
from functools import partial
from typing import Any, NamedTuple, Self

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.errors import DataError, UsageError
from featood.heads.base.fit import Fit, FitRecord, State, check_match, collect_warnings
from featood.heads.base.head import Head
from featood.heads.base.rows import SelectedRows


class PartialSums(NamedTuple):
    """Accumulated sums of partial fits."""

    statistics: Any = None
    digests: frozenset[str] = frozenset()
    """Digests of the parts, to detect repeated ones."""
    rows: int = 0
    source: FeatureSet | None = None
    """The last part without its rows."""


class _Accumulating:
    _sums: PartialSums | None = None


@dataclasses.dataclass(kw_only=True, eq=False)
class SummedHead(_Accumulating, Head):
    """A head whose fit is a sum over rows: one pass in flat memory, in any order, in any parts, on any engine.

    A subclass implements `accumulate` and `finish`. Its statistics have the methods `merge` and `without_rows` of
    :class:`featood.numerics.moments.ClassSums`.
    """

    def accumulate(self, statistics: Any, block: FeatureSet) -> Any:
        """Add a block to the statistics (None at the start) and return them."""
        raise NotImplementedError

    def finish(self, statistics: Any, train: SelectedRows) -> State:
        """Turn the statistics into tensors."""
        raise NotImplementedError

    def adopt(self, fit: Fit) -> Self:
        """Take over a fit and discard the sums of partial fits."""
        self._sums = None
        return super().adopt(fit)

    def fit_state(self, train: SelectedRows) -> State:
        """Pass over the rows once."""
        return self.finish(train.sum(self.accumulate), train)

    def check_parts(self) -> None:
        """Raise if the options need all rows at once, so that fitting by parts is impossible."""

    def partial_fit(self, part: Any, labels: Any = None, *, allow_repeat: bool = False) -> Self:
        """Add rows to those of earlier calls; the result does not depend on the parts or their order.

        It is identical to that of `fit`, to the last bit, if the parts are consecutive and each but the last has a
        multiple of 4,096 rows; otherwise the last bits may differ. A part is read twice: it is checked completely
        before any of its rows is added, so a rejected part leaves the fit unchanged.

        Parameters
        ----------
        part : FeatureSet or array
            Rows as `fit` takes them.
        labels : array, optional
            Class labels for plain features.
        allow_repeat : bool
            Accept a part with exactly the rows of an earlier part, in the same order; they then count twice.

        Raises
        ------
        Mismatch
            If the rows come from a different backbone than earlier rows.
        UsageError
            If the head was fitted by `fit` or loaded, since its sums are not kept; if a part with the same digest was
            added before; or if the space has to be fitted, which takes a separate pass over all rows.
        DataError
            If there are no rows or too few rows to fit on yet; rows added so far are kept.
        """
        self.check_parts()
        source = as_feature_set(part, labels)
        before = self._sums or PartialSums()
        if self._sums is None and self.learns and self.fitted:
            raise UsageError(
                f"{self.name} was fitted by fit or loaded, so it cannot be continued by partial_fit; "
                "use partial_fit on a new head for all parts"
            )
        self.check_match(source)
        with collect_warnings() as notes:
            rows = self.select(source, fitting=True, device=self.device)
            digest = rows.digest()
            if digest in before.digests and not allow_repeat:
                raise UsageError(
                    f"{self.name}: {source.name} has the same rows as a part added before, and they would "
                    "count twice; leave it out, or pass allow_repeat=True"
                )
            statistics = before.statistics
            for block, _ in rows.mapped(partial(self.transform_block, state={})).masked_blocks():
                if len(block):
                    statistics = self.accumulate(statistics, block)
            if statistics is None:
                raise DataError(f"{self.name}: {source.name} has no rows to fit on")
            digests, count = before.digests | {digest} - {""}, before.rows + len(source)
            sums = PartialSums(statistics, digests, count, source.rows(slice(0, 0)))
            state = self._finish(sums, rows)
        return self._adopt_sums(sums, state, FitRecord.of(source, rows, notes))

    def merge(self, other: Self, *, allow_repeat: bool = False) -> Self:
        """Add the rows of another head that was fitted by parts, for example in another process.

        Parameters
        ----------
        other : Head
            A head of the same kind with the same options, fitted by `partial_fit`; it is not changed.
        allow_repeat : bool
            Accept parts that were added to both heads; they then count twice.

        Raises
        ------
        UsageError
            If a head has no sums of partial fits, the heads have different options, or a part was added to both.
        Mismatch
            If their rows come from different backbones.

        Examples
        --------
        >>> import numpy as np
        >>> from featood import create_head
        >>> rows, labels = np.random.default_rng(0).normal(size=(400, 4)), np.arange(400) % 3
        >>> first = create_head("mahalanobis").partial_fit(rows[:150], labels[:150])
        >>> second = create_head("mahalanobis").partial_fit(rows[150:], labels[150:])
        >>> whole = create_head("mahalanobis").fit(rows, labels)
        >>> np.allclose(first.merge(second).score(rows), whole.score(rows))
        True
        """
        if type(other) is not type(self) or other.options != self.options:
            raise UsageError(f"{self.name}: only heads of one kind with the same options can be merged")
        mine, theirs = self._sums, other._sums
        if mine is None or theirs is None or mine.source is None or theirs.source is None:
            raise UsageError(
                f"{self.name}: merge takes heads that were fitted by partial_fit, which keep their sums"
            )
        if mine.digests & theirs.digests and not allow_repeat:
            raise UsageError(
                f"{self.name}: both heads contain the same part, which would count twice; pass allow_repeat=True"
            )
        with collect_warnings() as notes:
            rows = self.select(mine.source, fitting=True, device=self.device)
            check_match(self.name, FitRecord.of(mine.source, rows, ()), theirs.source)
            statistics = mine.statistics.merge(theirs.statistics)
            sums = PartialSums(
                statistics, mine.digests | theirs.digests, mine.rows + theirs.rows, mine.source
            )
            state = self._finish(sums, rows)
        return self._adopt_sums(sums, state, FitRecord.of(mine.source, rows, notes))

    def _finish(self, sums: PartialSums, rows: SelectedRows) -> State:
        self._sums = (
            sums  # first: statistics may be updated in place, and are kept even if their rows are too few
        )
        return self.finish(sums.statistics, rows)

    def _adopt_sums(self, sums: PartialSums, state: State, record: FitRecord) -> Self:
        self.adopt(Fit(state, dataclasses.replace(record, rows=sums.rows), self.device))
        self._sums = sums
        return self
