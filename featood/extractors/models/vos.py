"""Classifiers that are trained with outliers drawn in the space of the features."""

from __future__ import annotations

__all__ = ["VirtualOutliers"]

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.phases import PhasedModel
from featood.extractors.models.queues import ClassQueues
from featood.extractors.models.registry import register
from featood.losses import energy_odds, virtual_outliers, weighted_energy
from featood.options import option
from featood.training.gathering import gathered, of_first
from featood.training.loop import Losses


class Odds(nn.Module):
    """Log-odds ``exp(a) (E - b)`` of outliers from logits, with the energy E weighted by class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.log_weights = nn.Parameter(torch.zeros(classes))
        self.slope, self.middle = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        """Map logits ``[B, C]`` to log-odds ``[B]``."""
        return self.slope.exp() * (weighted_energy(logits, self.log_weights) - self.middle)


@register(
    "vos",
    title="Virtual outlier synthesis",
    paper="Du et al., VOS: Learning What You Don't Know by Virtual Outlier Synthesis, ICLR",
    year=2022,
    url="https://arxiv.org/abs/2202.01197",
)
class VirtualOutliers(PhasedModel):
    """Minimise the cross-entropy plus the logistic loss of telling images from outliers by their energy.

    Outliers are the least likely of many draws from Gaussians with the mean of each class and a shared covariance, of
    the latest features of each class. The log-odds of an outlier are ``exp(a) (E - b)`` with ``E = -log sum_c w_c
    exp(l_c)`` and learned a, b and w. The loss begins after the share `pretraining` of the training (the authors':
    epoch 40 of 100) and once all queues are full. Score it with ``energy``, as the authors do.

    Both sides count equally in the logistic loss; the authors' mean over all rows gives the few outliers less weight.
    There w is clipped at 0, here it is positive; there the factor on E may become negative. In place of one outlier of
    each class from `draws` for the class, the least likely of as many draws in all are given to random classes.
    """

    weight: float = option(0.1, "weight of the logistic loss", low=0)
    pretraining: float = option(0.4, "share of the training by cross-entropy alone", low=0, high=1)
    queue: int = option(1000, "images in the queue of each class", low=2)
    draws: int = option(10000, "draws for each class", low=1)
    selected: int = option(1, "outliers for each class", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.selected > self.draws:
            raise UsageError(
                f"{self.name}: {self.selected} outliers cannot be selected from {self.draws} draws"
            )

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the queues and the log-odds."""
        queues = ClassQueues(setup.classes, self.queue, setup.width)
        return {**super().parts(setup), "queues": queues, "odds": Odds(setup.classes)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the cross-entropy and the logistic loss."""
        batch = batch.inliers()
        features, queues, odds = net.features(batch.images), net.parts["queues"], net.parts["odds"]
        assert isinstance(queues, ClassQueues)
        logits = net.classify(features)
        named, logistic = batch.cross_entropy(logits), logits.new_zeros(())
        queues.push(gathered(features.detach()), gathered(batch.labels))
        if self.begun(net, batch, self.pretraining) and queues.full:
            drawn = of_first(self._draw(queues.rows, batch.generator))
            logistic = energy_odds(odds(logits), odds(net.classify(drawn.to(features))))
        return {"loss": named + self.weight * logistic, "classification": named, "odds": logistic}

    def _draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw outliers ``[C selected, D]`` from the queues ``[C, N, D]``."""
        with torch.autocast(rows.device.type, enabled=False):
            means = rows.mean(1)
            apart = (rows - means[:, None]).flatten(0, 1)
            ridge = 1e-4 * torch.eye(apart.shape[1], dtype=rows.dtype, device=rows.device)
            factor = torch.linalg.cholesky(apart.T @ apart / len(apart) + ridge)
            classes = len(rows)
            return virtual_outliers(means, factor, classes * self.selected, classes * self.draws, generator)
