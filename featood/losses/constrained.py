"""Outlier detection as constrained optimisation: bounds on false alarms and on the loss of the classifier."""

from __future__ import annotations

__all__ = ["augmented_lagrangian", "false_alarms", "missed_outliers", "updated_multipliers"]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.reductions import mean_over


def false_alarms(odds: Float[Tensor, "B"], labels: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    """Smooth false-alarm rate: mean probability that known rows are outliers, from log-odds of outliers ``[B]``."""
    return mean_over(odds.sigmoid(), labels >= 0)


def missed_outliers(odds: Float[Tensor, "B"], labels: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    """Smooth miss rate: mean probability that outliers are known rows, from log-odds of outliers ``[B]``."""
    return mean_over((-odds).sigmoid(), labels < 0)


def augmented_lagrangian(
    violations: Float[Tensor, "K"], multipliers: Float[Tensor, "K"], penalties: Float[Tensor, "K"]
) -> Float[Tensor, ""]:
    """Return the terms of constraints ``c_i <= 0`` in the augmented Lagrangian, as a scalar.

    Parameters
    ----------
    violations, multipliers, penalties : Tensor
        Values c, Lagrange multipliers l and weights b > 0 of the squares, ``[K]`` each.

    Returns
    -------
    Tensor
        The sum of ``l c + b c^2 / 2``, or ``-l^2 / (2 b)`` if ``b c + l < 0``.

    References
    ----------
    Katz-Samuels et al., Training OOD Detectors in their Natural Habitats, ICML 2022; Bai et al., Feed Two Birds
    with One Scone: Exploiting Wild Data for Both Out-of-Distribution Generalization and Detection, ICML 2023.
    """
    active = violations * multipliers + 0.5 * penalties * violations.square()
    inactive = -0.5 * multipliers.square() / penalties
    return torch.where(penalties * violations + multipliers >= 0, active, inactive).sum()


def updated_multipliers(
    violations: Float[Tensor, "K"],
    multipliers: Float[Tensor, "K"],
    penalties: Float[Tensor, "K"],
    rate: float = 1.0,
    growth: float = 1.5,
    tolerance: float = 0.0,
) -> tuple[Float[Tensor, "K"], Float[Tensor, "K"]]:
    """Take a step of gradient ascent on the multipliers, and increase the penalties of violated constraints.

    Parameters
    ----------
    violations, multipliers, penalties : Tensor
        As for :func:`augmented_lagrangian`.
    rate : float
        Step size.
    growth : float
        Factor on the penalty of a constraint that is violated by more than `tolerance`.
    tolerance : float
        See `growth`.

    Returns
    -------
    multipliers, penalties : Tensor
        ``[K]`` each.
    """
    active = penalties * violations + multipliers >= 0
    slope = torch.where(active, violations, -multipliers / penalties)
    return multipliers + rate * slope, torch.where(violations > tolerance, growth * penalties, penalties)
