"""Virtual outlier synthesis: a classifier trained with outliers sampled in feature space."""

from __future__ import annotations

__all__ = ["VirtualOutliers"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood import losses
from featood.heads.open_set._classifiers import Classifier
from featood.heads.open_set._network import Perceptron, in_chunks


class VirtualOutliers(Classifier):
    """A weighted energy separates known rows from outliers sampled in the tails of the class features.

    Class means and shared covariance of the features are initialised with the untrained network and then updated as
    moving averages over the batches. Outliers among the training rows are added to the sampled ones.
    """

    outliers = "used"
    defaults: ClassVar[Mapping[str, float]] = {"weight": 0.1}
    virtual, draws = 64, 6400
    rate, ridge = 0.1, 1e-4
    means: Tensor
    covariance: Tensor
    present: Tensor

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Make the weights of the energy, the logistic function and the Gaussians of the features."""
        super().make(perceptron, generator)
        size = self.readout.get_parameter("weight").shape[1]
        self.log_weights = nn.Parameter(torch.zeros(self.classes))
        # log slope of the log-odds, and the energy where they are 0
        self.curve = nn.Parameter(torch.zeros(2))
        self.register_buffer("means", torch.zeros(self.classes, size))
        self.register_buffer("covariance", torch.zeros(size, size))
        self.register_buffer("present", torch.zeros(self.classes, dtype=torch.bool))

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Compute the moments of all rows, and record which classes have rows."""
        features = in_chunks(self.features, rows)
        self.means, count = losses.class_means(features, labels, self.classes)
        self.covariance, self.present = self._spread(features, labels), count > 0

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy and the logistic loss of the energies."""
        features = self.features(rows)
        logits = self.readout(features).to(rows.dtype)
        if self.training:
            self._follow(features.detach(), labels)
        drawn = self.readout(self._draw(generator)).to(rows.dtype)
        outside = torch.cat([drawn, logits[labels < 0]])
        named = losses.cross_entropy(logits, labels)
        odds = losses.energy_odds(self._odds(logits[labels >= 0]), self._odds(outside))
        return {"loss": named + self.settings["weight"] * odds, "classification": named, "odds": odds}

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the weighted energy."""
        return losses.weighted_energy(self.logits(rows), self.log_weights)

    def _odds(self, logits: Tensor) -> Tensor:
        energy = losses.weighted_energy(logits, self.log_weights)
        return self.curve[0].exp() * (energy - self.curve[1])

    def _spread(self, features: Tensor, labels: Tensor) -> Tensor:
        """Covariance of the known rows around their class means."""
        apart = (features - self.means[labels.clamp(min=0)])[labels >= 0]
        with torch.autocast(features.device.type, enabled=False):
            return apart.T @ apart / max(len(apart), 1)

    def _follow(self, features: Tensor, labels: Tensor) -> None:
        """Update the moving averages with the moments of a batch, which may have a single row of a class."""
        self.covariance = torch.lerp(self.covariance, self._spread(features, labels), self.rate)
        means, count = losses.class_means(features, labels, self.classes)
        moved = torch.lerp(self.means, means, self.rate)
        self.means = torch.where(count[:, None] > 0, moved, self.means)

    def _draw(self, generator: torch.Generator) -> Tensor:
        variances = self.covariance.diagonal()
        ridge = torch.full_like(variances, self.ridge * float(variances.mean()) + 1e-12)
        factor = torch.linalg.cholesky(self.covariance + ridge.diag())
        means = self.means[self.present]
        return losses.virtual_outliers(means, factor, self.virtual, self.draws, generator)
