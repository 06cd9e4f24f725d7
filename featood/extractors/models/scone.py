"""Classifiers trained to flag outliers under constraints on false alarms and on the cross-entropy."""

from __future__ import annotations

__all__ = ["Constrained"]

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.phases import PhasedModel
from featood.extractors.models.registry import register
from featood.losses import augmented_lagrangian, false_alarms, missed_outliers, updated_multipliers
from featood.options import option
from featood.training.gathering import gathered
from featood.training.loop import Losses


class _Constraints(nn.Module):
    """The logistic function of the energy, and the state of the two constraints."""

    multipliers: Tensor
    penalties: Tensor
    violations: Tensor
    count: Tensor
    epoch: Tensor
    reference: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.middle = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.register_buffer("multipliers", torch.zeros(2))
        self.register_buffer("penalties", torch.ones(2))
        self.register_buffer("violations", torch.zeros(2))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("epoch", torch.tensor(-1))
        self.register_buffer("reference", torch.tensor(math.nan))

    @torch.no_grad()
    def start(self, named: Tensor, energy: Tensor, epoch: int, rate: float = 0.05) -> None:
        """Follow the cross-entropy by a moving average, and centre the logistic function."""
        old = named if bool(self.reference.isnan()) else self.reference
        self.reference.copy_(torch.lerp(old.to(named), named, rate))
        self.middle.fill_(float(energy.median()))
        self.epoch.fill_(epoch)

    def update(self, epoch: int, rate: float, growth: float) -> None:
        """Update multipliers and penalties by the mean violations of an epoch, at the first batch of the next."""
        if int(self.epoch) != epoch and int(self.count):
            means = self.violations / self.count
            found = updated_multipliers(means, self.multipliers, self.penalties, rate, growth)
            self.multipliers.copy_(found[0])
            self.penalties.copy_(found[1])
            self.violations.zero_()
            self.count.zero_()
        self.epoch.fill_(epoch)


@register(
    "scone",
    title="SCONE",
    paper="Bai et al., Feed Two Birds with One Scone: Exploiting Wild Data for Both Out-of-Distribution Generalization "
    "and Detection, ICML",
    year=2023,
    url="https://arxiv.org/abs/2306.09158",
    needs=("labels", "outliers"),
)
class Constrained(PhasedModel):
    """Minimise the missed outliers, under constraints on false alarms and on the cross-entropy.

    An image is flagged with the probability ``sigmoid(exp(a) (E - b))`` of its energy E, with learned a and b. The mean
    of the outliers' complement is minimised, such that the mean of labelled images, shifted by the margin, is at most
    `alarms`, and the cross-entropy at most `tolerance` times its value at the end of the first phase, by an augmented
    Lagrangian whose multipliers are updated after each epoch. Score it with ``energy``. With margin 0 it is WOODS
    (Katz-Samuels et al., ICML 2022).

    The authors fine-tune a trained classifier, with wild data that mix images, changed images and outliers; here the
    outliers are as given, and the share `pretraining` of the training minimises the cross-entropy alone. They shift the
    outliers by the margin, which is equivalent up to b. They update the multipliers by a pass over the training images;
    here by the mean violations of the epoch's updates.
    """

    weight: float = option(1.0, "weight of the missed outliers", low=0)
    margin: float = option(1.0, "shift of the energies of labelled images", low=0)
    alarms: float = option(0.05, "largest rate of false alarms", low=0, high=1)
    tolerance: float = option(2.0, "largest factor of the cross-entropy", low=0)
    rate: float = option(1.0, "rate of the multipliers", low=0)
    growth: float = option(1.5, "factor of the penalty of a violated constraint", low=1)
    pretraining: float = option(0.5, "share of the training by cross-entropy alone", low=0, high=1)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the state of the constraints."""
        return {**super().parts(setup), "constraints": _Constraints()}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the cross-entropy, and the rates of missed outliers and false alarms."""
        part = net.parts["constraints"]
        assert isinstance(part, _Constraints)
        # the constraints are on the mean of the batch, not of each process
        logits, batch = gathered(net(batch.images)), batch._replace(labels=gathered(batch.labels))
        named, energy = batch.cross_entropy(logits), -logits.logsumexp(1)
        slope = part.slope.exp()
        odds = slope * (energy - part.middle)
        missed = missed_outliers(odds, batch.labels)
        flagged = false_alarms(odds + slope * self.margin, batch.labels)
        begun = self.begun(net, batch, self.pretraining)
        if not begun or bool(part.reference.isnan()):
            part.start(named.detach(), energy.detach(), batch.epoch)
        terms = {"classification": named, "missed": missed, "flagged": flagged}
        if not begun:
            return {"loss": named, **terms}
        part.update(batch.epoch, self.rate, self.growth)
        violations = torch.stack([flagged - self.alarms, named - self.tolerance * part.reference])
        constraints = augmented_lagrangian(violations, part.multipliers, part.penalties)
        part.violations += violations.detach()
        part.count += 1
        return {"loss": self.weight * missed + constraints, **terms}
