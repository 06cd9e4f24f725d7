"""Base classes of heads that read one feature column in a space, and of those whose fit is a sum over rows."""

from __future__ import annotations

__all__ = ["FeatureHead", "PartialSums", "RawFeatures", "StreamingHead", "space_option"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.errors import DataError, UsageError
from featood.heads.base.fit import Fit, FitContext, FitRecord, Learned, State, collect_warnings
from featood.heads.base.head import Head
from featood.heads.base.rows import SelectedRows
from featood.numerics.spaces import FITTED, SPACES, apply_space, fit_space
from featood.options import option

PREFIX = "space."
"""Prefix of the tensors of a space in a head's state."""


def space_option(default: str) -> str:
    """Declare the option ``space`` with a default specific to the head."""
    return option(
        default,
        "transformation of the features: none, standardisation of each feature, rows of unit length, such rows "
        "standardised or whitened, or principal components",
        choices=SPACES,
    )


@dataclasses.dataclass(kw_only=True, eq=False)
class FeatureHead(Head):
    """A head that reads one feature column, transformed into the space of the option `space`.

    `fit_state` and `score_block` get blocks whose column is already in that space, in float64; in the space
    ``none`` it is as stored.
    """

    feature: str = option("", "feature column to use (default: the input of the classifier)")
    space: str = space_option("none")
    components: int = option(
        0, "principal components of the spaces l2-whiten and pca (0: all with non-negligible variance)", low=0
    )

    def __post_init__(self) -> None:
        if self.space != "none" and "classifier" in self.needs:
            raise UsageError(
                f"{self.name} uses the classifier, which applies to untransformed features only; use space none"
            )
        super().__post_init__()

    @property
    def learns(self) -> bool:
        """Whether the head or its space must be fitted."""
        return self.card.learns or self.space in FITTED

    def adopt(self, fit: Fit) -> Self:
        """Take over a fit made or saved elsewhere; raise KeyError if it lacks tensors of the space."""
        if missing := [name for name in FITTED.get(self.space, ()) if PREFIX + name not in fit.state]:
            raise KeyError(f"{self.name}: the space {self.space} lacks {', '.join(missing)}")
        return super().adopt(fit)

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the column `feature`, by default the classifier's input."""
        return [self.feature or source.main]

    def vectors(self, block: FeatureSet) -> Tensor:
        """Return the features of a block ``[B, D]`` in float32, or in float64 if they have that type."""
        values = block.feature(self.feature)[:]
        return values if values.dtype == torch.float64 else values.float()

    def numbers(self, block: FeatureSet, name: str) -> Tensor:
        """Return a column with a single number for each row ``[B]``, in float64.

        Raises
        ------
        DataError
            If it has more than one.
        """
        values = block.feature(name)[:].double()
        if values.shape[1] != 1:
            raise DataError(
                f"{self.name}: {name} has {values.shape[1]} numbers for each row; name a column with one"
            )
        return values[:, 0]

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Fit the space, then the head on the transformed rows."""
        space = self.fit_space(train)
        state, training = super().run_fit(self.in_space(train, space), context)
        return Learned(state | space, training)

    def fit_space(self, train: SelectedRows) -> State:
        """Fit the space on the rows of known classes, in one pass if it has to be fitted."""
        known = (
            block if block.labels is None else block.rows(block.labels[:] >= 0) for block in train.blocks()
        )
        return self.fit_space_to(self.vectors(block) for block in known)

    def fit_space_to(self, blocks: Iterable[Tensor]) -> State:
        """Fit the space on blocks ``[B, D]``; return its tensors under their names in the head's state."""
        return {
            PREFIX + name: value for name, value in fit_space(self.space, blocks, self.components).items()
        }

    def into_space(self, rows: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """Transform rows ``[B, D]`` into the space whose tensors are in `state`."""
        return apply_space(
            self.space, {name: state[PREFIX + name] for name in FITTED.get(self.space, ())}, rows
        )

    def in_space(self, rows: SelectedRows, state: Mapping[str, Tensor]) -> SelectedRows:
        """Return rows whose blocks are transformed into the space as they are read."""
        return rows if self.space == "none" else rows.mapped(lambda block: self.transform_block(block, state))

    def transform_block(self, block: FeatureSet, state: Mapping[str, Tensor]) -> FeatureSet:
        """Transform the column of a block into the space."""
        if self.space == "none":
            return block
        name = self.feature or block.main
        values = self.into_space(self.vectors(block), state)
        return dataclasses.replace(block, features={**block.features, name: values})


@dataclasses.dataclass(kw_only=True, eq=False)
class RawFeatures:
    """Mixin that removes the options of the space, for heads that need the untransformed column.

    These are heads that use the classifier's weights, which apply to untransformed features only, and heads whose
    column does not contain features.
    """

    space: ClassVar[str] = "none"
    components: ClassVar[int] = 0


class _Accumulating:
    _sums: PartialSums | None = None


@dataclasses.dataclass(kw_only=True, eq=False)
class StreamingHead(_Accumulating, FeatureHead):
    """A feature head whose fit is a sum over rows: one pass in flat memory, in any order, in any parts.

    Its labels are class numbers, not ranks, because parts may contain different classes.
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
        """Take over a fit and discard the sums of partial fits."""
        self._sums = None
        return super().adopt(fit)

    def fit_state(self, train: SelectedRows) -> State:
        """Pass over the rows once."""
        statistics = None
        for block in train.blocks():
            statistics = self.accumulate(statistics, block)
        return self.finish(statistics, train)

    def check_parts(self) -> None:
        """Raise if the options need all rows at once, so that fitting by parts is impossible."""

    def partial_fit(self, part: Any, labels: Any = None, *, allow_repeat: bool = False) -> Self:
        """Add rows to those of earlier calls; the result does not depend on the parts or their order.

        A part is read twice: it is checked completely before any of its rows is added, so a rejected part leaves
        the fit unchanged.

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
        if self.space in FITTED:
            raise UsageError(
                f"{self.name}: the space {self.space} must be fitted on all rows first; use fit, or space none or l2"
            )
        source = as_feature_set(part, labels)
        before = self._sums or PartialSums()
        if self._sums is None and self.learns and self.fitted:
            raise UsageError(
                f"{self.name} was fitted by fit or loaded, so it cannot be continued by partial_fit; "
                "use partial_fit on a new head for all parts"
            )
        self.check_parts()
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
            for block, _ in self.in_space(rows, {}).masked_blocks():
                if len(block):
                    statistics = self.accumulate(statistics, block)
            if statistics is None:
                raise DataError(f"{self.name}: {source.name} has no rows to fit on")
            sums = PartialSums(statistics, before.digests | {digest} - {""}, before.rows + len(source))
            # assigned before finish: statistics may be updated in place, and are kept even if finish fails
            self._sums = sums
            state = self.finish(statistics, rows)
        record = dataclasses.replace(FitRecord.of(source, rows, notes), rows=sums.rows)
        self.adopt(Fit(state, record, self.device))
        self._sums = sums
        return self


class PartialSums(NamedTuple):
    """Accumulated sums of partial fits."""

    statistics: Any = None
    digests: frozenset[str] = frozenset()
    """Digests of the parts, to detect repeated ones."""
    rows: int = 0
