"""Losses for training classifiers that detect outliers."""

from featood.losses.bounded_energy import bounded_energy, energy_bounds
from featood.losses.confidence import confidence_loss, logit_norm
from featood.losses.constrained import (
    augmented_lagrangian,
    false_alarms,
    missed_outliers,
    updated_multipliers,
)
from featood.losses.contrastive import (
    moved_prototypes,
    prototype_compactness,
    prototype_dispersion,
    reweighted_pairs,
    supervised_contrastive,
)
from featood.losses.discrepancy import classifier_discrepancy
from featood.losses.distances import (
    center_loss,
    center_repulsion,
    class_anchors,
    class_means,
    deep_sad,
    distances,
    hypersphere,
    intra_inter,
    rejection,
)
from featood.losses.latent_space import LatentMargins, LatentSpace
from featood.losses.margins import latent_divergence, triplet_margin
from featood.losses.outlier_exposure import (
    background_class,
    cross_entropy,
    mixture_outlier_exposure,
    objectosphere,
    outlier_exposure,
    uniform_cross_entropy,
)
from featood.losses.random_temperature import random_temperature
from featood.losses.rotation import rotated
from featood.losses.virtual_outliers import (
    boundary_outliers,
    energy_odds,
    virtual_outliers,
    weighted_energy,
)

__all__ = [
    "LatentMargins",
    "LatentSpace",
    "augmented_lagrangian",
    "background_class",
    "boundary_outliers",
    "bounded_energy",
    "center_loss",
    "center_repulsion",
    "class_anchors",
    "class_means",
    "classifier_discrepancy",
    "confidence_loss",
    "cross_entropy",
    "deep_sad",
    "distances",
    "energy_bounds",
    "energy_odds",
    "false_alarms",
    "hypersphere",
    "intra_inter",
    "latent_divergence",
    "logit_norm",
    "missed_outliers",
    "mixture_outlier_exposure",
    "moved_prototypes",
    "objectosphere",
    "outlier_exposure",
    "prototype_compactness",
    "prototype_dispersion",
    "random_temperature",
    "rejection",
    "reweighted_pairs",
    "rotated",
    "supervised_contrastive",
    "triplet_margin",
    "uniform_cross_entropy",
    "updated_multipliers",
    "virtual_outliers",
    "weighted_energy",
]
