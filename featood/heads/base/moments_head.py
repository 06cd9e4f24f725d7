"""Heads that are fitted to the class moments of one column, which all such heads can share."""

from __future__ import annotations

__all__ = ["MomentsHead", "class_moments"]

import dataclasses
from functools import partial

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.numerics.moments import ClassMoments
from featood.numerics.sharing import shared


def class_moments(head: FeatureHead, train: SelectedRows) -> ClassMoments:
    """Return the moments of the head's column, by class if there are labels, in one pass.

    They are shared by all heads that read the same rows in the same space (see `numerics/sharing.py`).
    """
    rows = train.one_column(head.feature or train.main)
    return shared(partial(_key, rows), lambda: rows.sum(partial(add_moments, head)))


def add_moments(head: FeatureHead, moments: ClassMoments | None, block: FeatureSet) -> ClassMoments:
    """Add a block's rows of the head's column to the moments (None at the start)."""
    return ClassMoments.of(head.vectors(block), block.labels, moments)  # type: ignore[arg-type]


@dataclasses.dataclass(kw_only=True, eq=False)
class MomentsHead(StreamingHead):
    """A streaming head whose statistics are the class moments of its column; a subclass implements `finish`."""

    def accumulate(self, statistics: ClassMoments | None, block: FeatureSet) -> ClassMoments:
        """Add a block's rows to the moments."""
        return add_moments(self, statistics, block)

    def fit_state(self, train: SelectedRows) -> State:
        """Pass over the rows once, unless another head has done so."""
        return self.finish(class_moments(self, train), train)


def _key(rows: SelectedRows) -> tuple[object, ...] | None:
    return None if rows.key is None else ("class moments", rows.key)
