"""Losses of embeddings with class centres as modules; a negative target marks an outlier.

Distances are squared Euclidean distances to the centres ``[B, C]``, as the method `distance` of each loss returns them.
"""

from __future__ import annotations

__all__ = [
    "CACLoss",
    "CenterLoss",
    "CenterRegularizationLoss",
    "ClassCenters",
    "DeepSADLoss",
    "DeepSVDDLoss",
    "IILoss",
    "MCHADLoss",
    "RunningCenters",
    "SSDeepSVDDLoss",
]

import torch
from torch import Tensor, nn

from featood.detectors.losses import cross_entropy
from featood.detectors.utils import apply_reduction, is_known, pairwise_distances
from featood.errors import UsageError
from featood.losses.distances import (
    center_repulsion,
    class_anchors,
    class_means,
    intra_inter,
    rejection,
)
from featood.losses.reductions import mean_over


class ClassCenters(nn.Module):
    """Centres ``[C, D]`` of classes, drawn from a normal distribution, and learned unless `fixed`."""

    def __init__(self, n_classes: int, n_features: int, fixed: bool = False) -> None:
        super().__init__()
        self.params = nn.Parameter(torch.randn(n_classes, n_features), requires_grad=not fixed)

    @property
    def num_classes(self) -> int:
        """Number of centres C."""
        return self.params.shape[0]

    @property
    def n_features(self) -> int:
        """Number of dimensions D."""
        return self.params.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the squared distances ``[B, C]`` of embeddings ``[B, D]``."""
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise UsageError(f"the centres have {self.n_features} dimensions, embeddings are {list(x.shape)}")
        return pairwise_distances(x, self.params)

    def predict(self, x: Tensor) -> Tensor:
        """Return the softmin of the distances ``[B, C]``."""
        return self(x).neg().softmax(1)


class RunningCenters(nn.Module):
    """Means ``[C, D]`` of the class means of all batches."""

    centers: Tensor
    batches: Tensor

    def __init__(self, n_classes: int, n_embedding: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(n_classes, n_embedding))
        self.register_buffer("batches", torch.zeros(n_classes))

    def update(self, x: Tensor, target: Tensor) -> None:
        """Add the class means of a batch; outliers are ignored."""
        means, rows = class_means(x.detach(), target, len(self.centers))
        self.batches.add_(rows > 0)
        share = (rows > 0) / self.batches.clamp(min=1)
        self.centers.add_(share[:, None] * (means - self.centers))

    def forward(self, x: Tensor) -> Tensor:
        """Return the squared distances ``[B, C]``."""
        return pairwise_distances(x, self.centers)


class _ToCenters(nn.Module):
    """Base of the losses of squared distances to centres."""

    centers: ClassCenters | RunningCenters

    def distance(self, x: Tensor) -> Tensor:
        """Return the squared distances ``[B, C]`` of embeddings ``[B, D]``."""
        return self.centers(x)


class CenterLoss(_ToCenters):
    """Mean of ``max(d_y - radius, 0)`` over known rows, divided by the number of classes.

    The division is that of an average over rows and classes.

    References
    ----------
    Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016 (without radius).
    """

    def __init__(
        self, n_classes: int, n_dim: int, magnitude: float = 1.0, radius: float = 0.0, fixed: bool = False
    ) -> None:
        super().__init__()
        self.num_classes, self.radius = n_classes, radius
        self.centers = ClassCenters(n_classes, n_dim, fixed)
        if n_classes == n_dim:
            nn.init.eye_(self.centers.params)
        with torch.no_grad():
            self.centers.params.mul_(magnitude)

    def forward(self, distmat: Tensor, target: Tensor) -> Tensor:
        """Return the loss of squared distances ``[B, C]``."""
        own = distmat.gather(1, target.clamp(min=0)[:, None]).squeeze(1)
        return mean_over((own - self.radius).relu(), is_known(target)) / self.num_classes


class CACLoss(_ToCenters):
    """Class anchor clustering: ``log(1 + sum_{c != y} exp(d_y - d_c)) + alpha d_y`` of fixed anchors, d being squared.

    pytorch-ood leaves out the last class in the sum instead of the class of the row, and its score is the negated
    largest term of the paper's, whose smallest this one is.

    References
    ----------
    Miller et al., Class Anchor Clustering: A Loss for Distance-Based Open Set Recognition, WACV 2021.
    """

    def __init__(self, n_classes: int, magnitude: float = 1.0, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.centers = ClassCenters(n_classes, n_classes, fixed=True)
        with torch.no_grad():
            self.centers.params.copy_(magnitude * torch.eye(n_classes))

    def forward(self, distances: Tensor, target: Tensor) -> Tensor:
        """Return the loss of squared distances ``[B, C]``."""
        return class_anchors(distances, target, self.alpha)["loss"]

    @staticmethod
    def score(distance: Tensor) -> Tensor:
        """Return ``min_c d_c (1 - softmin(d)_c)`` ``[B]``, higher for outliers."""
        return rejection(distance)


class IILoss(_ToCenters):
    """Spread within the classes of a batch minus alpha times the separation of the nearest two.

    Both are of the means of the batch, also in evaluation mode; `distance` is to the means of all batches.

    References
    ----------
    Hassen and Chan, Learning a Neural-network-based Representation for Open Set Recognition, SDM 2020.
    """

    centers: RunningCenters

    def __init__(self, n_classes: int, n_embedding: int, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.centers = alpha, RunningCenters(n_classes, n_embedding)

    def predict(self, x: Tensor) -> Tensor:
        """Return the softmin of the distances ``[B, C]``."""
        return self.distance(x).neg().softmax(1)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the loss of embeddings ``[B, D]``."""
        if self.training:
            self.centers.update(x, target)
        return intra_inter(x, target, len(self.centers.centers), self.alpha)["loss"]


class CenterRegularizationLoss(nn.Module):
    """Sum (or mean) over the outliers of ``sum_c max(margin^2 - d_c^2, 0)``, d being squared distances."""

    def __init__(self, margin: float, reduction: str = "sum") -> None:
        super().__init__()
        self.margin, self.reduction = margin, reduction

    def forward(self, distmat: Tensor, target: Tensor) -> Tensor:
        """Return the loss of squared distances ``[B, C]``."""
        mean = center_repulsion(distmat, target, self.margin)
        return mean * (target < 0).sum() if self.reduction == "sum" else mean


class MCHADLoss(_ToCenters):
    """Weighted sum of the centre loss, the cross-entropy of negated distances, and the sum that repels outliers.

    References
    ----------
    Kirchheim et al., Multi-Class Hypersphere Anomaly Detection, ICPR 2022.
    """

    def __init__(
        self, n_classes: int, n_dim: int, radius: float = 0.0, margin: float = 0.0, weight_center: float = 1.0,
        weight_nll: float = 1.0, weight_oe: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.center_loss = CenterLoss(n_classes, n_dim, radius=radius)
        self.regu_loss = CenterRegularizationLoss(margin)
        self.weights = weight_center, weight_nll, weight_oe

    @property
    def centers(self) -> ClassCenters:  # type: ignore[override]
        """The centres."""
        return self.center_loss.centers  # type: ignore[return-value]

    def forward(self, distmat: Tensor, y: Tensor) -> Tensor:
        """Return the loss of squared distances ``[B, C]``."""
        center, nll, oe = self.weights
        classification = center * self.center_loss(distmat, y) + nll * cross_entropy(-distmat, y)
        return classification + oe * self.regu_loss(distmat, y)


class _OneCenter(nn.Module):
    """Base of the losses with a single fixed centre ``[D]``, which is drawn at random if it is not given."""

    def __init__(self, n_dim: int, center: Tensor | None, reduction: str | None) -> None:
        super().__init__()
        self.center, self.reduction = ClassCenters(1, n_dim, fixed=True), reduction
        if center is not None:
            with torch.no_grad():
                self.center.params.copy_(center.view(1, n_dim))


class DeepSVDDLoss(_OneCenter):
    """Mean of ``max(|x - c|^2 - radius^2, 0)`` over known rows.

    References
    ----------
    Ruff et al., Deep One-Class Classification, ICML 2018.
    """

    def __init__(
        self, n_dim: int, reduction: str | None = "mean", radius: float = 0.0, center: Tensor | None = None
    ) -> None:
        super().__init__(n_dim, center, reduction)
        self.radius = radius

    def distance(self, x: Tensor) -> Tensor:
        """Return ``|x - c|^2 - radius^2`` ``[B]``."""
        return self.center(x).squeeze(1) - self.radius**2

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings ``[B, D]``; without y, all rows are known."""
        known = torch.ones(len(x), dtype=torch.bool, device=x.device) if y is None else is_known(y)
        values = self.distance(x).relu()
        return (
            mean_over(values, known)
            if self.reduction == "mean"
            else apply_reduction(values * known, self.reduction)
        )


class DeepSADLoss(_OneCenter):
    """Mean of ``|x - c|^2`` of known rows and ``eta / (|x - c|^2 + eps)`` of outliers, over all rows.

    References
    ----------
    Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020.
    """

    def __init__(
        self, n_dim: int, eta: float = 1.0, eps: float = 1e-6, reduction: str | None = "mean",
        center: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(n_dim, center, reduction)
        self.eta, self.eps = eta, eps

    def distance(self, x: Tensor) -> Tensor:
        """Return ``|x - c|^2`` ``[B]``."""
        return self.center(x).squeeze(1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of embeddings ``[B, D]``."""
        squared = self.distance(x)
        values = torch.where(is_known(y), squared, self.eta / (squared + self.eps))
        return apply_reduction(values, self.reduction)


class SSDeepSVDDLoss(DeepSADLoss):
    """:class:`DeepSADLoss` with the name and the first argument of earlier versions."""

    def __init__(self, n_features: int, reduction: str | None = "mean") -> None:
        super().__init__(n_features, reduction=reduction)
