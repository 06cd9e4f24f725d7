"""The option ``space`` of heads on a feature column: the space in which they look at it."""

from __future__ import annotations

__all__ = ["RawFeatures", "SpaceOption", "space_option"]

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from torch import Tensor

from featood.heads.registry import option
from featood.numerics.spaces import FITTED, SPACES, apply_space, fit_space

PREFIX = "space."
"""Of the names that the tensors of a space have in a head's state."""


def space_option(default: str) -> str:
    """Declare the option with a default of the head's own."""
    return option(
        default,
        "space of the features: as they are, every feature with mean 0 and variance 1, every row with length 1, "
        "such rows standardised or with covariance the identity, or principal components",
        choices=SPACES,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpaceOption:
    """Mixin of heads that look at one feature column: in which space."""

    space: str = space_option("none")
    components: int = option(
        0, "principal components of the spaces l2-whiten and pca (0: all with variance above rounding)", low=0
    )

    def fit_space(self, blocks: Iterable[Tensor]) -> dict[str, Tensor]:
        """Fit the space to rows ``[B, D]``, in one pass where it must be fitted; its tensors as a state has them."""
        fitted = fit_space(self.space, blocks, self.components)
        return {PREFIX + name: value for name, value in fitted.items()}

    def into_space(self, rows: Tensor) -> Tensor:
        """Bring rows ``[B, D]`` into the space: that of the state, or during a fit that in which it is `placed`."""
        return apply_space(self.space, vars(self).get("_space", {}), rows)

    @contextlib.contextmanager
    def placed(self, state: Mapping[str, Tensor]) -> Iterator[None]:
        """Look at rows in the space of a state that is not the head's own yet."""
        before = vars(self).get("_space", {})
        self._place(state)
        try:
            yield
        finally:
            vars(self)["_space"] = before

    def _place(self, state: Mapping[str, Tensor]) -> None:
        vars(self)["_space"] = {name: state[PREFIX + name] for name in FITTED.get(self.space, ())}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RawFeatures:
    """Mixin that takes the option away, in front of heads whose column must stay as it is.

    Such are those that use the classifier's weights, which are right in no other space, and those whose column holds
    something else than features.
    """

    space: ClassVar[str] = "none"
    components: ClassVar[int] = 0
