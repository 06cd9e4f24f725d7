"""Composition of the scores of several heads."""

from __future__ import annotations

__all__ = ["Compose", "compose", "composed_energy"]

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.heads.base.fit import State
from featood.heads.base.head import Head
from featood.heads.compositions._composition import Composition
from featood.heads.registry import register
from featood.options import option


@register(
    "compose",
    title="HEAT's composition of heads",
    paper="Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML",
    year=2023,
    url="https://arxiv.org/abs/2305.16966",
    needs=("features", "labels", "classifier"),
)
class Compose(Composition):
    """Score ``(1 / beta) log sum_k exp(beta u_k)`` of the members' standardised scores u_k.

    The limits are the sum (beta = 0), the maximum (inf) and the minimum (-inf). Scores are standardised with the mean
    and standard deviation of each member on a fixed sample of the training rows. A member that stores its training
    rows (a nearest-neighbour head) scores them lower than new rows, and therefore gets more weight than the others.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        "members": ("mahalanobis", "heat-el epochs=1 width=16 depth=1 sgld_steps=2")
    }

    members: tuple[str, ...] = option(
        ("heat-gmm", "heat-gmm-std", "heat-el"),
        "heads to compose, with options as in 'knn k=50' or a preset as in 'heat-el preset=cifar100'; "
        "featood fit also takes auto, see featood recommend",
    )
    beta: float = option(0.0, "0 sums the standardised scores, inf takes the largest, -inf the smallest")

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isnan(self.beta):
            raise UsageError(f"{self.name}: beta must be a number, inf or -inf")

    def learn_scores(self, scores: Tensor) -> State:
        """Return mean and standard deviation of each member's scores; a deviation of zero is set to one."""
        scale = scores.std(0, correction=0)
        return {"mean": scores.mean(0), "scale": torch.where(scale > 0, scale, torch.ones_like(scale))}

    def combine(self, scores: Tensor, calibration: State) -> Tensor:
        """Return the composed score ``[B]``."""
        return composed_energy((scores - calibration["mean"]) / calibration["scale"], self.beta)


def composed_energy(scores: Tensor, beta: float) -> Tensor:
    """Compose standardised scores ``[B, K]`` to ``[B]``: sum, maximum, minimum, or a soft maximum or minimum.

    Parameters
    ----------
    scores : Tensor
        ``[B, K]``.
    beta : float
        0 for the sum, inf or -inf for the maximum or minimum, otherwise the inverse temperature.
    """
    if beta == 0:
        return scores.sum(1)
    if math.isinf(beta):
        return scores.amax(1) if beta > 0 else scores.amin(1)
    return torch.logsumexp(beta * scores, 1) / beta


def compose(
    heads: Sequence[Head], train: Any, *, beta: float = 0.0, sample: int = 10_000, seed: int = 0
) -> Compose:
    """Compose fitted heads.

    Parameters
    ----------
    heads : sequence of Head
        The fitted heads.
    train : FeatureSet
        The rows they were fitted on; mean and standard deviation are computed on a sample of them.
    beta, sample, seed
        See :class:`Compose`.

    Returns
    -------
    Compose
        A fitted head that holds copies of the members' tensors.

    Raises
    ------
    NotFitted
        If a head is not fitted.
    Mismatch
        If a head was fitted on features of another backbone.
    """
    return Compose.of(heads, train, beta=beta, sample=sample, seed=seed)
