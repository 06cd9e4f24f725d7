"""Heads that read one feature column, in a space of it; of these, heads whose fit is a sum over rows."""

from __future__ import annotations

__all__ = ["FeatureHead", "PartialSums", "RawFeatures", "StreamingHead", "space_option"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.errors import DataError, UsageError
from featood.heads.base.declaration import option
from featood.heads.base.fit import Fit, FitContext, FitRecord, Learned, State, collect_warnings
from featood.heads.base.head import Head
from featood.heads.base.rows import SelectedRows
from featood.numerics.spaces import FITTED, SPACES, apply_space, fit_space

PREFIX = "space."
"""Of the names that the tensors of a space have in a head's state."""


def space_option(default: str) -> str:
    """Declare the option ``space`` with a default of the head's own."""
    return option(
        default,
        "space of the features: as they are, every feature with mean 0 and variance 1, every row with length 1, "
        "such rows standardised or with covariance the identity, or principal components",
        choices=SPACES,
    )


@dataclasses.dataclass(kw_only=True, eq=False)
class FeatureHead(Head):
    """A head that reads one feature column, in the space asked for.

    Both `fit_state` and `score_block` see blocks whose column is in that space already, in float64; in the space
    ``none`` it is as stored.
    """

    feature: str = option("", "feature column to use (default: the input of the classifier)")
    space: str = space_option("none")
    components: int = option(
        0, "principal components of the spaces l2-whiten and pca (0: all with variance above rounding)", low=0
    )

    def __post_init__(self) -> None:
        if self.space != "none" and "classifier" in self.needs:
            raise UsageError(f"{self.name} uses the classifier, which is right in no other space than none")
        super().__post_init__()

    @property
    def learns(self) -> bool:
        """Whether it must be fitted, for the sake of its space too."""
        return self.card.learns or self.space in FITTED

    def adopt(self, fit: Fit) -> Self:
        """Take over a fit that was made or saved elsewhere; one without the tensors of the space is refused."""
        if missing := [name for name in FITTED.get(self.space, ()) if PREFIX + name not in fit.state]:
            raise KeyError(f"{self.name}: the space {self.space} lacks {', '.join(missing)}")
        return super().adopt(fit)

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the one column: that asked for, else the classifier's input."""
        return [self.feature or source.main]

    def vectors(self, block: FeatureSet) -> Tensor:
        """Return the features of a block ``[B, D]`` in float32, or in float64 where they are so."""
        values = block.feature(self.feature)[:]
        return values if values.dtype == torch.float64 else values.float()

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Fit the space, then the head to the rows in it."""
        space = self.fit_space(train)
        state, training = super().run_fit(self.in_space(train, space), context)
        return Learned(state | space, training)

    def fit_space(self, train: SelectedRows) -> State:
        """Fit the space to the rows of known classes, in one pass where it must be fitted."""
        if self.space not in FITTED:
            return {}
        known = (
            block if block.labels is None else block.rows(block.labels[:] >= 0) for block in train.blocks()
        )
        return self.fit_space_to(self.vectors(block) for block in known)

    def fit_space_to(self, blocks: Iterable[Tensor]) -> State:
        """Fit the space to rows ``[B, D]``; its tensors as the state of the head has them."""
        return {
            PREFIX + name: value for name, value in fit_space(self.space, blocks, self.components).items()
        }

    def into_space(self, rows: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """Bring rows ``[B, D]`` into the space whose tensors a state has."""
        return apply_space(
            self.space, {name: state[PREFIX + name] for name in FITTED.get(self.space, ())}, rows
        )

    def in_space(self, rows: SelectedRows, state: Mapping[str, Tensor]) -> SelectedRows:
        """Return rows whose blocks are brought into the space as they are read."""
        return rows if self.space == "none" else rows.mapped(lambda block: self.transform_block(block, state))

    def transform_block(self, block: FeatureSet, state: Mapping[str, Tensor]) -> FeatureSet:
        """Bring the column of a block into the space."""
        if self.space == "none":
            return block
        name = self.feature or block.main
        values = self.into_space(self.vectors(block), state)
        return dataclasses.replace(block, features={**block.features, name: values})


@dataclasses.dataclass(kw_only=True, eq=False)
class RawFeatures:
    """Mixin that takes the options of a space away, in front of heads whose column must stay as it is.

    Such are those that use the classifier's weights, which are right in no other space, and those whose column holds
    something else than features.
    """

    space: ClassVar[str] = "none"
    components: ClassVar[int] = 0


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
        with collect_warnings() as notes:
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
