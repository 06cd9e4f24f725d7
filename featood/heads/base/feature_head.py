"""Heads that read one feature column, and the space in which they do."""

from __future__ import annotations

__all__ = ["FeatureHead", "RawFeatures", "space_option"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.fit import Fit, FitContext, Learned, State
from featood.heads.base.head import Head
from featood.heads.base.options import option
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
