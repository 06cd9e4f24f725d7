"""Base classes of heads that read one feature column in a space, and of those whose fit is a sum over rows."""

from __future__ import annotations

__all__ = ["FeatureHead", "RawFeatures", "StreamingHead", "space_option"]

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial
from typing import ClassVar, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.fit import Fit, FitContext, Learned, State
from featood.heads.base.head import Head
from featood.heads.base.rows import SelectedRows
from featood.heads.base.summed_head import SummedHead
from featood.numerics.sharing import digest
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

    def is_narrow(self, train: SelectedRows) -> bool:
        """Return whether the column has 16-bit numbers, so that rows take least memory as they are stored."""
        return str(train.source.feature(self.feature).dtype).endswith("float16")

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
        if self.space == "none":
            return rows
        return rows.mapped(partial(self.transform_block, state=state), partial(_space_key, self.space, state))

    def transform_block(self, block: FeatureSet, state: Mapping[str, Tensor]) -> FeatureSet:
        """Transform the column of a block into the space."""
        if self.space == "none":
            return block
        name = self.feature or block.main
        values = self.into_space(self.vectors(block), state)
        return dataclasses.replace(block, features={**block.features, name: values})


def _space_key(space: str, state: Mapping[str, Tensor]) -> tuple[str, str]:
    return space, digest(*state.values())


@dataclasses.dataclass(kw_only=True, eq=False)
class RawFeatures:
    """Mixin that removes the options of the space, for heads that need the untransformed column.

    These are heads that use the classifier's weights, which apply to untransformed features only, and heads whose
    column does not contain features.
    """

    space: ClassVar[str] = "none"
    components: ClassVar[int] = 0


@dataclasses.dataclass(kw_only=True, eq=False)
class StreamingHead(SummedHead, FeatureHead):
    """A feature head whose fit is a sum over rows: one pass in flat memory, in any order, in any parts.

    Its labels are class numbers, not ranks, because parts may contain different classes.
    """

    @property
    def _ranks(self) -> bool:
        return False

    def check_parts(self) -> None:
        """Raise if the space has to be fitted on all rows first."""
        super().check_parts()
        if self.space in FITTED:
            raise UsageError(
                f"{self.name}: the space {self.space} must be fitted on all rows first; use fit, or space none or l2"
            )
