"""Heads whose fit is a sum over rows."""

from __future__ import annotations

__all__ = ["StreamingHead"]

import dataclasses
from typing import Any, Self

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.errors import DataError, UsageError
from featood.heads.base import FeatureHead, State
from featood.heads.provenance import described
from featood.heads.rows import SelectedRows
from featood.numerics.spaces import FITTED


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StreamingHead(FeatureHead):
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

    def fit_state(self, train: SelectedRows) -> State:
        """Pass over the rows once."""
        vars(self).pop("_statistics", None)
        statistics = None
        for block in train.blocks():
            statistics = self.accumulate(statistics, block)
        return self.finish(statistics, train)

    def partial_fit(self, part: Any, labels: Any = None) -> Self:
        """Add rows to what earlier calls added; parts in any order give the fit of the whole.

        Raises
        ------
        Mismatch
            When the rows come from another backbone than those before.
        UsageError
            On a head that was fitted whole, or loaded: only its tensors are kept, not its sums.
            And in a space that must be fitted, which takes a pass over all rows before.
        DataError
            When there is no row to fit on yet.
        """
        if self.space in FITTED:
            raise UsageError(
                f"{self.name}: the space {self.space} must be fitted to all rows first; use fit, or space none or l2"
            )
        source = as_feature_set(part, labels)
        statistics = vars(self).get("_statistics")
        if statistics is None and vars(self)["_state"] is not None:
            raise UsageError(
                f"{self.name} was fitted whole or loaded, and cannot go on from there; "
                "call partial_fit on a new head for every part"
            )
        self.check_match(source)
        rows = self._select(source, fitting=True, device=self.device)
        seen = self.meta.get("rows", 0)
        for block, _ in rows.masked_blocks():
            if len(block):
                statistics = self.accumulate(statistics, block)
        if statistics is None:
            raise DataError(f"{self.name}: {source.name} has no rows to fit on")
        meta = described(source, rows, [])
        self._adopt(self.finish(statistics, rows), {**meta, "rows": seen + len(source)}, self.device)
        vars(self)["_statistics"] = statistics
        return self
