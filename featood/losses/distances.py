"""Losses of embeddings in which known rows are near the centre of their class, and outliers far from all centres.

Embeddings are ``[B, E]``, centres ``[C, E]``, distances ``[B, C]`` and labels ``[B]``; a negative label marks an
outlier. Every term is a mean over its rows, and 0 if the batch has no such rows.
"""

from __future__ import annotations

__all__ = [
    "center_loss",
    "center_repulsion",
    "class_anchors",
    "class_means",
    "deep_sad",
    "distances",
    "hypersphere",
    "intra_inter",
    "rejection",
]

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.outlier_exposure import cross_entropy
from featood.losses.reductions import mean_over

CHUNK = 1 << 24
"""Maximum number of rows times classes in memory at once."""


def distances(embedding: Float[Tensor, "B E"], centers: Float[Tensor, "C E"]) -> Float[Tensor, "B C"]:
    """Euclidean distance of every row to every centre ``[B, C]``, accurate for small distances."""
    return torch.cdist(embedding, centers, compute_mode="donot_use_mm_for_euclid_dist")


def class_means(
    embedding: Float[Tensor, "B E"], labels: Int[Tensor, "B"], classes: int
) -> tuple[Float[Tensor, "C E"], Float[Tensor, "C"]]:
    """Mean embedding of each class ``[C, E]``, zero for classes without rows, and numbers of rows ``[C]``.

    Computed in the precision of the embedding, also under autocast.
    """
    total, count = embedding.new_zeros(classes, embedding.shape[1]), embedding.new_zeros(classes)
    group = max(1, CHUNK // max(1, classes))
    with torch.autocast(embedding.device.type, enabled=False):
        for rows, classes_of_rows in zip(embedding.split(group), labels.split(group), strict=True):
            one_hot = F.one_hot(classes_of_rows.clamp(min=0), classes).to(rows)
            one_hot = one_hot * (classes_of_rows >= 0)[:, None]
            total, count = total + one_hot.T @ rows, count + one_hot.sum(0)
        return total / count.clamp(min=1)[:, None], count


def center_loss(
    to_centers: Float[Tensor, "B C"], labels: Int[Tensor, "B"], radius: float = 0.0
) -> Float[Tensor, ""]:
    """Mean of ``max(d_y^2 - radius^2, 0)`` over the known rows, where d_y is the distance to the centre of the class.

    References
    ----------
    Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016 (without radius).
    """
    own = to_centers.gather(1, labels.clamp(min=0)[:, None]).squeeze(1)
    return mean_over((own.square() - radius**2).relu(), labels >= 0)


def center_repulsion(
    to_centers: Float[Tensor, "B C"], labels: Int[Tensor, "B"], margin: float
) -> Float[Tensor, ""]:
    """Mean of ``sum_c max(margin^2 - d_c^2, 0)`` over the outliers, which repels them from centres within the margin.

    References
    ----------
    Kirchheim et al., Multi-Class Hypersphere Anomaly Detection, ICPR 2022.
    """
    return mean_over((margin**2 - to_centers.square()).relu().sum(1), labels < 0)


def class_anchors(
    to_anchors: Float[Tensor, "B C"], labels: Int[Tensor, "B"], weight: float = 0.1
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss of class anchor clustering over the known rows.

    Parameters
    ----------
    to_anchors : Tensor
        Distances d to the fixed anchors of the classes ``[B, C]``.
    labels : Tensor
        ``[B]``.
    weight : float
        Weight of the distance to the anchor of the class, relative to ``log(1 + sum_{c != y} exp(d_y - d_c))``.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and its terms ``tuplet`` and ``anchor``.

    References
    ----------
    Miller et al., Class Anchor Clustering: A Loss for Distance-Based Open Set Recognition, WACV 2021.
    """
    own = to_anchors.gather(1, labels.clamp(min=0)[:, None]).squeeze(1)
    # log(1 + sum_{c != y} exp(d_y - d_c)) = d_y + log sum_c exp(-d_c) is a cross-entropy
    tuplet, anchor = cross_entropy(-to_anchors, labels), mean_over(own, labels >= 0)
    return {"loss": tuplet + weight * anchor, "tuplet": tuplet, "anchor": anchor}


def rejection(to_anchors: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Score ``min_c d_c (1 - softmin(d)_c)`` ``[B]`` of class anchor clustering, large far from all anchors."""
    log_p = (-to_anchors).log_softmax(1)
    return (to_anchors * -torch.expm1(log_p)).amin(1)


def intra_inter(
    embedding: Float[Tensor, "B E"],
    labels: Int[Tensor, "B"],
    classes: int,
    weight: float = 1.0,
    limit: float = math.inf,
) -> dict[str, Float[Tensor, ""]]:
    """Return the spread within classes minus the separation of the two nearest classes, by the means of the batch.

    Parameters
    ----------
    embedding, labels : Tensor
        ``[B, E]`` and ``[B]``.
    classes : int
        Number of classes.
    weight : float
        Weight of the separation.
    limit : float
        Distance above which the separation does not increase further; if infinite, the loss is unbounded below.

    Returns
    -------
    dict of str to Tensor
        ``loss``; ``spread``, the mean squared distance to the mean of the class; and ``separation``, the smallest
        squared distance between two means, 0 if the batch has a single class.

    References
    ----------
    Hassen and Chan, Learning a Neural-network-based Representation for Open Set Recognition, SDM 2020.
    """
    means, count = class_means(embedding, labels, classes)
    spread = mean_over((embedding - means[labels.clamp(min=0)]).square().sum(1), labels >= 0)
    present = means[count > 0]
    separation = spread.new_zeros(())
    if len(present) > 1:
        separation = F.pdist(present).min().square().clamp(max=limit**2)
    return {"loss": spread - weight * separation, "spread": spread, "separation": separation}


def hypersphere(
    embedding: Float[Tensor, "B E"], center: Float[Tensor, "E"], labels: Int[Tensor, "B"], radius: float = 0.0
) -> Float[Tensor, ""]:
    """Mean of ``max(|z - c|^2 - radius^2, 0)`` over the known rows.

    References
    ----------
    Ruff et al., Deep One-Class Classification, ICML 2018.
    """
    return mean_over(((embedding - center).square().sum(1) - radius**2).relu(), labels >= 0)


def deep_sad(
    embedding: Float[Tensor, "B E"], center: Float[Tensor, "E"], labels: Int[Tensor, "B"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """Mean of ``|z - c|^2`` over the known rows plus `weight` times the mean of its inverse over the outliers.

    References
    ----------
    Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020.
    """
    squared = (embedding - center).square().sum(1)
    return mean_over(squared, labels >= 0) + weight * mean_over(1 / (squared + 1e-6), labels < 0)
