"""Networks whose embeddings are compact, trained with outliers drawn at the boundary of the classes."""

from __future__ import annotations

__all__ = ["NonParametricOutliers"]

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.prototypes import PrototypeModel
from featood.extractors.models.queues import ClassQueues
from featood.extractors.models.registry import register
from featood.losses import boundary_outliers, energy_odds
from featood.options import option
from featood.training.gathering import gathered, of_first
from featood.training.loop import Losses


@register(
    "npos",
    title="Non-parametric outlier synthesis",
    paper="Tao et al., Non-parametric Outlier Synthesis, ICLR",
    year=2023,
    url="https://arxiv.org/abs/2303.02966",
)
class NonParametricOutliers(PrototypeModel):
    """Minimise compactness and dispersion as ``cider``, plus the logistic loss of telling images from outliers.

    Outliers are drawn around the features of each class with the largest distance to their k-th nearest neighbour, by
    noise of the standard deviation `spread`, and of these the ones with the largest distance are kept. A perceptron on
    the features, the part ``odds``, tells them from the images. This begins after the share `pretraining` of the
    training and once all queues are full. Score the features with ``knn``; a linear classifier is trained at the same
    time, on features without a gradient.

    Defaults are those of OpenOOD. The authors' code and OpenOOD's order the draws wrongly when they select the farthest
    ones, so that the selected ones are nearly arbitrary; here they are the farthest. OpenOOD empties the queues after
    each epoch and gives the perceptron a smaller learning rate. Both sides count equally in the logistic loss.
    """

    compactness: float = option(1.0, "weight of the compactness", low=0)
    dispersion: float = option(0.5, "weight of the dispersion", low=0)
    weight: float = option(0.1, "weight of the logistic loss", low=0)
    pretraining: float = option(0.4, "share of the training without outliers", low=0, high=1)
    queue: int = option(1000, "features in the queue of each class", low=1)
    neighbor: int = option(300, "k, at most the length of the queue", low=1)
    boundary: int = option(200, "features of a class among which those to draw around are chosen", low=1)
    seeds: int = option(2, "features of each class to draw around in each update", low=1)
    samples: int = option(600, "draws around each feature", low=1)
    kept: int = option(200, "outliers around each feature", low=1)
    spread: float = option(0.1, "standard deviation of the noise", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for small, large in (
            ("neighbor", "queue"),
            ("boundary", "queue"),
            ("seeds", "boundary"),
            ("kept", "samples"),
        ):
            if getattr(self, small) > getattr(self, large):
                raise UsageError(f"{self.name}: {small} must not exceed {large}, {getattr(self, large)}")

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the perceptrons, the prototypes and the queues."""
        first = nn.Linear(setup.width, self.latent)
        return {
            **super().parts(setup),
            "odds": nn.Sequential(first, nn.ReLU(), nn.Linear(self.latent, 1)),
            "queues": ClassQueues(setup.classes, self.queue, setup.width),
        }

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, compactness, dispersion, the logistic loss, and the cross-entropy of the classifier."""
        batch = batch.inliers()
        features, queues, odds = net.features(batch.images), net.parts["queues"], net.parts["odds"]
        assert isinstance(queues, ClassQueues)
        compactness, dispersion = self.prototype_losses(net, features, batch.labels)
        named, logistic = self.classification(net, batch, features), features.new_zeros(())
        queues.push(gathered(features.detach(), self.views), gathered(batch.labels, self.views))
        if batch.done >= self.pretraining and queues.full:
            drawn = of_first(self._draw(queues.rows, batch.generator))
            logistic = energy_odds(odds(features).squeeze(1), odds(drawn.to(features)).squeeze(1))
        loss = self.compactness * compactness + self.dispersion * dispersion + self.weight * logistic + named
        return {
            "loss": loss, "compactness": compactness, "dispersion": dispersion, "odds": logistic,
            "classification": named,
        }  # fmt: skip

    def _draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        noise = self.spread * torch.randn(self.samples, rows.shape[2], generator=generator).to(rows)
        return boundary_outliers(
            rows, noise, generator, neighbor=self.neighbor, boundary=self.boundary, seeds=self.seeds,
            kept=self.kept,
        )  # fmt: skip
