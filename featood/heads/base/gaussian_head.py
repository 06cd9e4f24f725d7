"""What heads with Gaussians share: one rule for how covariances are estimated and made sound."""

from __future__ import annotations

__all__ = ["GaussianHead"]

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.heads.base.declaration import option
from featood.heads.base.head import Head
from featood.numerics.gaussian import Whitening, whitenings
from featood.numerics.moments import ClassMoments

Passes = Callable[[], Iterable[tuple[Tensor, Tensor | None]]]
"""Starts a pass over the rows of a fit: blocks of rows ``[B, D]`` with labels ``[B]`` (None: one class)."""


@dataclasses.dataclass(kw_only=True, eq=False)
class GaussianHead(Head):
    """A head that factorises covariances. One rule makes them sound, the same for every such head.

    - `shrinkage` comes first. It draws a covariance towards its mean variance, by as much as Ledoit and Wolf or the
      OAS find best for the number of rows.
    - Then `ridge` times the mean variance within classes, tr(S_within) / D, is added to the diagonal of all covariances
      that are compared with one another, the same number to each. By default that is nothing, so that the arithmetic is
      exact; where a factorisation is rejected, it is the least that makes all sound, which is warned of and kept in the
      artefact's notes.
    - A feature that is constant in training has no variance but this ridge: where it varies in a row, the row is far.
      ``dead="ignore"`` leaves such features out instead, as a pseudo-inverse does.
    """

    ridge: float = option(
        0.0, "least ridge on the covariances, relative to the mean variance within classes", low=0, high=1
    )
    shrinkage: str = option(
        "none",
        "draw covariances towards their mean variance, by an estimate of how much",
        choices=("none", "ledoit-wolf", "oas"),
    )
    dead: str = option("narrow", "features that are constant in training", choices=("narrow", "ignore"))

    def whiten(
        self, moments: ClassMoments, passes: Passes, *others: Tensor, what: str = "the tied covariance"
    ) -> list[Whitening]:
        """Whiten the covariance within classes, and `others` ``[D, D]`` that it is compared with.

        The others are shrunk as it is. A feature without variance in any of several covariances adds the same to
        each, and is left out.
        """
        within = moments.within_covariance()
        covariances, dead = [within, *others], within.diagonal() <= 0
        if self.dead == "narrow":
            dead = dead & others[-1].diagonal().le(0) if others else torch.zeros_like(dead)
        if self.shrinkage != "none":
            from featood.numerics.shrinkage import shrunk

            powers = within.new_zeros(())
            if self.shrinkage == "ledoit-wolf":
                powers = torch.stack([moments.fourth_powers(*block).sum() for block in passes()]).sum()
            intensity = self.intensity(within, moments.count.sum(), powers)
            covariances = [shrunk(one, intensity, within.diagonal().mean()) for one in covariances]
        return whitenings(moments.mean(), covariances, self.ridge, what, dead if bool(dead.any()) else None)

    def intensity(self, covariance: Tensor, rows: Tensor, fourth_powers: Tensor) -> Tensor:
        """Return how much to shrink covariances ``[..., D, D]`` of `rows` ``[...]`` rows each."""
        from featood.numerics.shrinkage import ledoit_wolf, oas

        if self.shrinkage == "oas":
            return oas(covariance, rows)
        return ledoit_wolf(covariance, rows, fourth_powers)

    def check_parts(self) -> None:
        """Refuse to fit by parts where all rows are needed again."""
        if self.shrinkage == "ledoit-wolf":
            raise UsageError(
                f"{self.name}: the shrinkage ledoit-wolf takes two passes over all rows, so there is no fit by parts; "
                "use oas, or fit on the whole"
            )
