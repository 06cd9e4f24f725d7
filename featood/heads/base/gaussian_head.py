"""Base class of heads with Gaussians: one policy for estimating and regularising covariances."""

from __future__ import annotations

__all__ = ["GaussianHead"]

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.heads.base.head import Head
from featood.numerics.gaussian import Whitening, whitenings
from featood.numerics.moments import ClassMoments
from featood.options import option

Passes = Callable[[], Iterable[tuple[Tensor, Tensor | None]]]
"""Starts a pass over the training rows: blocks of rows ``[B, D]`` with labels ``[B]`` (None: one class)."""


@dataclasses.dataclass(kw_only=True, eq=False)
class GaussianHead(Head):
    """A head that factorises covariances. All such heads regularise them in the same way.

    - First, `shrinkage` shrinks a covariance towards its mean variance times the identity, with the intensity of Ledoit
      and Wolf or of OAS.
    - Then `ridge` times the mean variance within classes, tr(S_within) / D, is added to the diagonal of all covariances
      that are compared with each other, the same value to each. The default is 0, which leaves the estimate unchanged;
      if a factorisation fails, the smallest ridge for which all succeed is used, with a warning that is also kept in
      the artefact's notes.
    - The variance of a feature that is constant in training is this ridge: a row with another value gets a large
      distance. ``dead="ignore"`` drops such features instead, as a pseudo-inverse does.
    """

    ridge: float = option(
        0.0, "smallest ridge on the covariances, relative to the mean variance within classes", low=0, high=1
    )
    shrinkage: str = option(
        "none",
        "shrink covariances towards their mean variance, with an estimated intensity",
        choices=("none", "ledoit-wolf", "oas"),
    )
    dead: str = option(
        "narrow",
        "treatment of features that are constant in training: keep them with a tiny variance (narrow), or drop them",
        choices=("narrow", "ignore"),
    )

    def whiten(
        self, moments: ClassMoments, passes: Passes, *others: Tensor, what: str = "the tied covariance"
    ) -> list[Whitening]:
        """Whiten the within-class covariance, and `others` ``[D, D]`` that it is compared with.

        The others are shrunk with the same intensity. A feature without variance in any of several covariances
        contributes equally to each distance, and is dropped.
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
        """Return the shrinkage intensity of covariances ``[..., D, D]`` of `rows` ``[...]`` rows each."""
        from featood.numerics.shrinkage import ledoit_wolf, oas

        if self.shrinkage == "oas":
            return oas(covariance, rows)
        return ledoit_wolf(covariance, rows, fourth_powers)

    def check_parts(self) -> None:
        """Raise if the options need a second pass over all rows, so that fitting by parts is impossible."""
        super().check_parts()  # type: ignore[misc]  # of the summed head that it is mixed with
        if self.shrinkage == "ledoit-wolf":
            raise UsageError(
                f"{self.name}: shrinkage ledoit-wolf needs two passes over all rows, so it cannot be fitted by parts; "
                "use shrinkage oas, or fit"
            )
