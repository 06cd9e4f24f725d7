"""Distributions of the initial states of chains."""

from __future__ import annotations

__all__ = ["STARTS", "NormalStarts", "UniformStarts"]

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

DIRECTIONS = 256
"""Rows of each class whose covariance `NormalStarts` has."""


class UniformStarts(nn.Module):
    """Uniform states on ``[-spread, spread]``.

    Parameters
    ----------
    shape : sequence of int
        Shape of one state.
    classes : int
        Number of classes of chains.
    spread : float
        Largest absolute value.
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 1, spread: float = 1.0) -> None:
        super().__init__()
        self.shape, self.classes, self.spread = tuple(shape), classes, spread

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Do nothing, as the states do not depend on the training rows."""

    def forward(self, classes: Int[Tensor, "B"], generator: torch.Generator) -> Float[Tensor, "B ..."]:
        """Draw a state for each chain, given their classes; on the device of the generator."""
        drawn = torch.rand((len(classes), *self.shape), generator=generator, device=generator.device)
        return self.spread * (2 * drawn - 1)


class NormalStarts(UniformStarts):
    """Normal states with the mean of the training rows of their class, clamped to ``[-spread, spread]``.

    The covariance is that of the first rows of the class, at most `DIRECTIONS`. Before :meth:`fit`, all states are 0,
    like those of a class without rows.

    References
    ----------
    Yang and Ji, JEM++: Improved Techniques for Training JEM, ICCV 2021 ("informative initialization"), with the
    covariance of all rows.
    """

    means: Float[Tensor, "C D"]
    directions: Float[Tensor, "C rows D"]
    """Differences of rows from the mean, over the square root of their number."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int = 1,
        spread: float = 1.0,
        directions: int = DIRECTIONS,
    ) -> None:
        super().__init__(shape, classes, spread)
        size = math.prod(shape)
        self.register_buffer("means", torch.zeros(classes, size))
        self.register_buffer("directions", torch.zeros(classes, directions, size))

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take means and covariances of batches of rows ``[B, ...]`` and labels ``[B]``; one class ignores labels."""
        limit = self.directions.shape[1]
        sums = torch.zeros_like(self.means, dtype=torch.float64)
        counts = torch.zeros(self.classes, dtype=torch.long, device=sums.device)
        self.directions.zero_()
        for batch, labels in batches:
            rows = batch.flatten(1)
            known = labels.to(sums.device) if self.classes > 1 else counts.new_zeros(len(rows))
            sums.index_add_(0, known, rows.to(sums))
            members = F.one_hot(known, self.classes)
            places = (counts + members.cumsum(0) - members).gather(1, known[:, None])[:, 0]
            kept = places < limit
            self.directions[known[kept], places[kept]] = rows[kept].to(self.directions)
            counts += members.sum(0)
        means = sums / counts.clamp(min=1)[:, None]
        self.means.copy_(means)
        filled = counts.clamp(max=limit)
        used = torch.arange(limit, device=sums.device) < filled[:, None]
        first = self.directions.sum(1, dtype=torch.float64) / filled.clamp(min=1)[:, None]
        self.directions.sub_(first[:, None]).mul_(used[..., None])
        self.directions.div_(filled.clamp(min=1).sqrt()[:, None, None])

    def forward(self, classes: Int[Tensor, "B"], generator: torch.Generator) -> Float[Tensor, "B ..."]:
        """Draw a state for each chain, given their classes; on the device of the generator."""
        limit = self.directions.shape[1]
        drawn = torch.randn((len(classes), limit), generator=generator, device=generator.device)
        classes = classes.to(self.means.device)
        # one matrix product over the rows of all classes, of which those of other classes have weight 0
        places = limit * classes[:, None] + torch.arange(limit, device=classes.device)
        weights = self.means.new_zeros(len(classes), limit * self.classes)
        weights.scatter_(1, places, drawn.to(weights))
        states = self.means[classes] + weights @ self.directions.flatten(0, 1)
        return states.clamp(-self.spread, self.spread).unflatten(1, self.shape).to(generator.device)


STARTS: dict[str, type[UniformStarts]] = {"uniform": UniformStarts, "normal": NormalStarts}
"""By name."""
