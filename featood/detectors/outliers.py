"""Losses that learn to tell energies of known rows from those of outliers, as modules."""

from __future__ import annotations

__all__ = [
    "EnergyMarginLoss",
    "VOSRegLoss",
    "VirtualOutlierSynthesizingRegLoss",
    "evaluate_energy_logistic_loss",
]

import warnings
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.detectors.losses import cross_entropy
from featood.detectors.utils import as_rows, contains_known_and_unknown, drop_unknown, is_known
from featood.errors import DataError
from featood.losses.constrained import (
    augmented_lagrangian,
    false_alarms,
    missed_outliers,
    updated_multipliers,
)
from featood.losses.virtual_outliers import virtual_outliers, weighted_energy


class VOSRegLoss(nn.Module):
    """Cross-entropy of known rows plus alpha times that of telling them from outliers by their energies.

    Parameters
    ----------
    logistic_regression : Linear
        Energy ``[N, 1]`` to logits ``[N, 2]`` of outlier and known.
    weights_energy : Linear
        Its weight ``[1, C]`` is that of the energy; negative entries count as 0.
    alpha : float
        Weight of the second term.
    reduction : str
        Reduction of the first term.

    References
    ----------
    Du et al., VOS: Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022.
    """

    def __init__(
        self, logistic_regression: nn.Module, weights_energy: nn.Linear, alpha: float = 0.1,
        reduction: str | None = "mean", device: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.logistic_regression, self.weights_energy = logistic_regression, weights_energy
        self.alpha, self.reduction = alpha, reduction
        self.to(device)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of logits ``[B, C]`` or ``[B, C, H, W]``."""
        separation = self.separation(as_rows(logits), is_known(y).flatten())
        return cross_entropy(logits, y, self.reduction) + self.alpha * separation

    def separation(self, logits: Tensor, known: Tensor) -> Tensor:
        """Return the cross-entropy of rows ``[N, C]`` that are known or not ``[N]``."""
        # the gradient of the logarithm at zero is infinite; clamping makes it 0
        log_weights = self.weights_energy.weight.flatten().clamp(min=1e-30).log()
        energy = weighted_energy(logits, log_weights)
        return F.cross_entropy(self.logistic_regression(energy[:, None]), known.long())


class VirtualOutlierSynthesizingRegLoss(VOSRegLoss):
    """:class:`VOSRegLoss` with outliers drawn in feature space, once a queue of each class is full; others are ignored.

    Parameters
    ----------
    logistic_regression, weights_energy, alpha, reduction
        As for :class:`VOSRegLoss`.
    fc : Linear
        The last layer, features to logits.
    sample_number : int
        Latest features of each class, of whose means and tied covariance the outliers are drawn.
    select, sample_from : int
        Number of outliers for each class, and of draws of which they are the least likely.
    device, num_classes, num_input_last_layer
        Arguments of earlier versions: the device to move the loss to, and two numbers that are those of `fc`.
    """

    queues: Tensor
    filled: Tensor

    def __init__(
        self, logistic_regression: nn.Module, weights_energy: nn.Linear, fc: nn.Linear, alpha: float = 0.1,
        reduction: str | None = "mean", sample_number: int = 1000, select: int = 1, sample_from: int = 10_000, *,
        device: str | None = None, num_classes: int | None = None, num_input_last_layer: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(logistic_regression, weights_energy, alpha, reduction)
        if num_classes not in (None, fc.out_features) or num_input_last_layer not in (None, fc.in_features):
            warnings.warn(
                "the numbers of classes and inputs are those of fc; the others are ignored", stacklevel=2
            )
        self.fc, self.select, self.sample_from = fc, select, sample_from
        queues = torch.zeros(fc.out_features, sample_number, fc.in_features)
        self.register_buffer("queues", queues, persistent=False)
        self.register_buffer("filled", torch.zeros(fc.out_features, dtype=torch.long), persistent=False)
        self.to(device)

    def forward(self, logits: Tensor, features: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Return the loss of logits ``[B, C]`` and features ``[B, D]``."""
        y, logits, features = drop_unknown(y, logits, features)
        loss = cross_entropy(logits, y, self.reduction)
        full = bool((self.filled >= self.queues.shape[1]).all())
        self._append(features.detach(), y)
        if not full or not len(y):
            return loss
        rows = torch.cat([logits, self.fc(self._draw())])
        known = torch.arange(len(rows), device=rows.device) < len(logits)
        return loss + self.alpha * self.separation(rows, known)

    def _append(self, features: Tensor, y: Tensor) -> None:
        """Add rows ``[B, D]`` to the queues, whose earliest rows they replace."""
        for label in y.unique():
            rows = torch.cat([self.queues[label], features[y == label]])
            self.queues[label] = rows[-self.queues.shape[1] :]
            self.filled[label] += len(rows) - self.queues.shape[1]

    def _draw(self) -> Tensor:
        """Draw outliers ``[C select, D]``."""
        means = self.queues.mean(1)
        residuals = (self.queues - means[:, None]).flatten(0, 1)
        ridge = 1e-4 * torch.eye(means.shape[1], device=means.device)
        factor = torch.linalg.cholesky(residuals.T @ residuals / len(residuals) + ridge)
        draws = (
            virtual_outliers(mean[None], factor, self.select, self.sample_from, torch.default_generator)
            for mean in means
        )
        return torch.cat(list(draws))


@torch.no_grad()
def evaluate_energy_logistic_loss(
    model: nn.Module,
    train_loader_in: Iterable[tuple[Tensor, Tensor]],
    logistic_regression: Callable[[Tensor], Tensor],
    device: str | torch.device | None = None,
) -> tuple[float, float, float]:
    """Return means over known rows: of the regression's probability, its cross-entropy to 1, and the classifier's.

    The regression is a function of the logsumexp ``[N, 1]`` of the logits; `model` is set to evaluation.
    """
    model.eval()
    parts = []
    for x, y in train_loader_in:
        logits = model(x.to(device))
        odds = logistic_regression(logits.logsumexp(1)[:, None]).mean(1)
        classification = cross_entropy(logits, y.to(logits.device), "none")
        parts.append(torch.stack([odds.sigmoid(), F.softplus(-odds), classification], 1))
    if not parts:
        raise DataError("the loader has no rows")
    probability, odds, classification = torch.cat(parts).double().mean(0).tolist()
    return probability, odds, classification


class EnergyMarginLoss(nn.Module):
    """Outliers that are missed, with bounds on false alarms and on the cross-entropy as constraints.

    Parameters
    ----------
    full_train_loss : float
        Cross-entropy of the network before this training.
    eta : float
        Margin that is subtracted from the logsumexp of outliers.
    false_alarm_cutoff : float
        Bound on the false-alarm rate of known rows.
    in_constraint_weight, ce_constraint_weight, out_constraint_weight : float
        Initial weights of the squares of both constraints, and weight of the missed outliers.
    ce_tol : float
        Bound on the cross-entropy, relative to `full_train_loss`.
    lr_lam, penalty_mult, constraint_tol : float
        Step size of the multipliers, growth of the weights, and violation above which they grow.

    References
    ----------
    Katz-Samuels et al., Training OOD Detectors in their Natural Habitats, ICML 2022; Bai et al., Feed Two Birds with
    One Scone, ICML 2023.
    """

    multipliers: Tensor
    penalties: Tensor

    def __init__(
        self, full_train_loss: float, eta: float = 1.0, false_alarm_cutoff: float = 0.05,
        in_constraint_weight: float = 1.0, ce_tol: float = 2.0, ce_constraint_weight: float = 1.0,
        out_constraint_weight: float = 1.0, lr_lam: float = 1.0, penalty_mult: float = 1.5, constraint_tol: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.eta, self.out_constraint_weight, self.constraint_tol = eta, out_constraint_weight, constraint_tol
        self.bounds = false_alarm_cutoff, ce_tol * full_train_loss
        self.lr_lam, self.penalty_mult = lr_lam, penalty_mult
        self.register_buffer("multipliers", torch.zeros(2))
        self.register_buffer("penalties", torch.tensor([in_constraint_weight, ce_constraint_weight]))

    def forward(
        self, logits: Tensor, targets: Tensor, logistic_regression: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the loss of logits ``[B, C]``; the regression maps logsumexp ``[N, 1]`` to log-odds of an alarm.

        Raises
        ------
        DataError
            If there are no known rows or no outliers.
        """
        if not contains_known_and_unknown(targets):
            raise DataError("every batch needs known rows and outliers")
        level = logits.logsumexp(1) - self.eta * (targets < 0)
        odds = logistic_regression(level[:, None])
        labels = targets[:, None].expand_as(odds).flatten()
        violations = self._violations(false_alarms(odds.flatten(), labels), cross_entropy(logits, targets))
        constraints = augmented_lagrangian(violations, self.multipliers, self.penalties)
        return constraints + self.out_constraint_weight * missed_outliers(odds.flatten(), labels)

    @torch.no_grad()
    def update_hyperparameters(
        self,
        model: nn.Module,
        train_loader_in: Iterable[tuple[Tensor, Tensor]],
        logistic_regression: Callable[[Tensor], Tensor],
    ) -> None:
        """Update multipliers and weights by the violations on a loader of known rows; `model` is set to evaluation."""
        place = self.multipliers.device
        alarms, _, classification = evaluate_energy_logistic_loss(
            model, train_loader_in, logistic_regression, place
        )
        violations = self._violations(
            torch.tensor(alarms, device=place), torch.tensor(classification, device=place)
        )
        self.multipliers, self.penalties = updated_multipliers(
            violations, self.multipliers, self.penalties, self.lr_lam, self.penalty_mult, self.constraint_tol
        )

    def _violations(self, alarms: Tensor, classification: Tensor) -> Tensor:
        return torch.stack([alarms - self.bounds[0], classification - self.bounds[1]])
