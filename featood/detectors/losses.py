"""Losses of classifiers as modules; a negative target marks an outlier.

Logits are ``[B, C]`` with targets ``[B]``, or ``[B, C, H, W]`` with targets ``[B, H, W]``, where every pixel counts as
a row. With the reduction ``none``, a loss has the shape of the targets.
"""

from __future__ import annotations

__all__ = [
    "BackgroundClassLoss",
    "ConfidenceLoss",
    "CrossEntropyLoss",
    "EnergyRegularizedLoss",
    "EntropicOpenSetLoss",
    "LogitNorm",
    "ObjectosphereLoss",
    "OutlierExposureLoss",
    "cross_entropy",
    "logit_norm_loss",
]

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.detectors.utils import apply_reduction, as_rows, is_known
from featood.errors import UsageError
from featood.losses.bounded_energy import energy_penalties
from featood.losses.outlier_exposure import cross_entropies, length_penalties, uniform_cross_entropies
from featood.losses.reductions import mean_over

Terms: TypeAlias = Callable[..., Tensor]
"""Rows ``[N, C]`` and classes ``[N]`` to a term of each row ``[N]``."""


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str | None = "mean") -> Tensor:
    """Cross-entropy of the known rows; that of outliers is 0, and does not count in the mean."""
    values = _each(cross_entropies, logits, targets)
    if reduction == "mean":
        return mean_over(values.flatten(), is_known(targets).flatten())
    return apply_reduction(values, reduction)


def logit_norm_loss(logits: Tensor, target: Tensor, t: float = 1.0, reduction: str | None = "mean") -> Tensor:
    """Cross-entropy of the known rows with logits scaled to the norm ``1 / t``."""
    return cross_entropy(F.normalize(logits, dim=1, eps=1e-7) / t, target, reduction)


def _each(terms: Terms, outputs: Tensor, targets: Tensor, *options: float) -> Tensor:
    """Return the term of each row, or position of ``[B, C, ...]``, in the shape of the targets."""
    rows, classes = as_rows(outputs), targets.reshape(-1).long()
    if len(rows) != len(classes):
        raise UsageError(f"targets {list(targets.shape)} do not fit outputs {list(outputs.shape)}")
    return terms(rows, classes, *options).view(targets.shape)


def _energy_penalties(logits: Tensor, targets: Tensor, low: float, high: float) -> Tensor:
    return energy_penalties(-logits.logsumexp(1), targets, low, high)


class CrossEntropyLoss(nn.Module):
    """Cross-entropy of the known rows."""

    def __init__(self, reduction: str | None = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        return cross_entropy(logits, targets, self.reduction)


class OutlierExposureLoss(nn.Module):
    """Cross-entropy of known rows, and alpha times that of outliers to the uniform distribution; mean over all rows.

    References
    ----------
    Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019.
    """

    def __init__(self, alpha: float = 0.5, reduction: str | None = "mean") -> None:
        super().__init__()
        self.alpha, self.reduction = alpha, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        uniform = self.alpha * _each(uniform_cross_entropies, logits, target)
        return apply_reduction(_each(cross_entropies, logits, target) + uniform, self.reduction)


class EntropicOpenSetLoss(OutlierExposureLoss):
    """Outlier exposure with alpha = 1.

    References
    ----------
    Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018.
    """

    def __init__(self, reduction: str | None = "mean") -> None:
        super().__init__(1.0, reduction)


class ObjectosphereLoss(nn.Module):
    """Entropic open-set loss plus alpha times ``max(xi - |z|, 0)^2`` of known rows and ``|z|^2`` of outliers.

    References
    ----------
    Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018.
    """

    def __init__(self, alpha: float = 1.0, xi: float = 1.0, reduction: str | None = "mean") -> None:
        super().__init__()
        self.alpha, self.xi, self.reduction = alpha, xi, reduction

    def forward(self, logits: Tensor, features: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``[B, C]`` and features ``[B, D]``."""
        entropic = _each(cross_entropies, logits, target) + _each(uniform_cross_entropies, logits, target)
        lengths = _each(length_penalties, features, target, self.xi)
        return apply_reduction(entropic + self.alpha * lengths, self.reduction)

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        """Return ``-max softmax(l) |l|`` ``[B]``."""
        return -logits.softmax(1).amax(1) * logits.norm(dim=1)


class EnergyRegularizedLoss(nn.Module):
    """Cross-entropy of known rows plus alpha times a loss on their energies and those of outliers.

    It is the square of what energies of known rows are above `margin_in`, and those of outliers below `margin_out`.
    Each of the three terms is a mean over its rows; sums are over all rows. Added to a cross-entropy that ignores
    outliers, known rows count twice in it.

    References
    ----------
    Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        margin_in: float = -25.0,
        margin_out: float = -7.0,
        reduction: str | None = "mean",
    ) -> None:
        super().__init__()
        self.alpha, self.m_in, self.m_out, self.reduction = alpha, margin_in, margin_out, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        penalties = _each(_energy_penalties, logits, targets, self.m_in, self.m_out)
        if self.reduction == "mean":
            known, values = is_known(targets).flatten(), penalties.flatten()
            return cross_entropy(logits, targets) + self.alpha * (
                mean_over(values, known) + mean_over(values, ~known)
            )
        return apply_reduction(
            _each(cross_entropies, logits, targets) + self.alpha * penalties, self.reduction
        )


class BackgroundClassLoss(nn.Module):
    """Cross-entropy over logits ``[B, n_classes + 1]``, of which the last class is that of outliers."""

    def __init__(self, n_classes: int, reduction: str | None = "mean") -> None:
        super().__init__()
        self.num_classes, self.reduction = n_classes, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        if bool((targets >= self.num_classes).any()):
            raise UsageError(f"targets are below {self.num_classes}, not {int(targets.max())}")
        return cross_entropy(
            logits, torch.where(is_known(targets), targets, self.num_classes), self.reduction
        )


class LogitNorm(nn.Module):
    """Cross-entropy of normalised logits; the published settings for CIFAR have t = 0.04.

    References
    ----------
    Wei et al., Mitigating Neural Network Overconfidence with Logit Normalization, ICML 2022.
    """

    def __init__(self, t: float = 1.0, reduction: str | None = "mean") -> None:
        super().__init__()
        self.t, self.reduction = t, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return logit_norm_loss(logits, target, self.t, self.reduction)


class ConfidenceLoss(nn.Module):
    """Mean of ``-log(c p_y + 1 - c) - alpha log c`` of known rows, with logarithms of at least eps.

    :func:`featood.losses.confidence.confidence_loss` is the same of the logit of c, without the bound eps.

    References
    ----------
    DeVries and Taylor, Learning Confidence for Out-of-Distribution Detection in Neural Networks, 2018.
    """

    def __init__(self, alpha: float = 1.0, eps: float = 1e-24) -> None:
        super().__init__()
        self.alpha, self.eps = alpha, eps

    def forward(self, logits: Tensor, confidence: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``[B, C]`` and confidences c ``[B]`` or ``[B, 1]``."""
        own, c = (-_each(cross_entropies, logits, target)).exp(), confidence.flatten()
        answer, price = ((p.clamp(self.eps, 1)).log() for p in (own * c + 1 - c, c))
        return mean_over(-answer - self.alpha * price, is_known(target))
