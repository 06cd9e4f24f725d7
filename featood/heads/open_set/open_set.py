"""One head for all objectives of open-set classification."""

from __future__ import annotations

__all__ = ["OBJECTIVES", "OpenSet"]

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from featood.errors import UsageError
from featood.heads.open_set import _classifiers, _embeddings
from featood.heads.open_set._finetuned import BoundedEnergy, Constrained
from featood.heads.open_set._network import LOGIT_SCORES, ObjectiveNet
from featood.heads.open_set._objective_head import ObjectiveHead
from featood.heads.open_set._virtual_outliers import VirtualOutliers
from featood.heads.registry import register
from featood.options import option

OBJECTIVES: Mapping[str, type[ObjectiveNet]] = {
    "cross-entropy": _classifiers.Classifier,
    "logit-norm": _classifiers.LogitNorm,
    "confidence": _classifiers.Confidence,
    "vos": VirtualOutliers,
    "center": _embeddings.CenterLoss,
    "cac": _embeddings.AnchorClustering,
    "ii": _embeddings.IntraInter,
    "mchad": _embeddings.MultiHypersphere,
    "deep-svdd": _embeddings.DeepSVDD,
    "deep-sad": _embeddings.DeepSAD,
    "outlier-exposure": _classifiers.OutlierExposure,
    "mixture-outlier-exposure": _classifiers.MixtureExposure,
    "entropic": _classifiers.Entropic,
    "objectosphere": _classifiers.Objectosphere,
    "background": _classifiers.Background,
    "energy-bounded": BoundedEnergy,
    "scone": Constrained,
}

LIMITS = {
    "weight": (0, math.inf),
    "margin": (0, math.inf),
    "temperature": (1e-6, math.inf),
    "latent": (1, math.inf),
    "pretraining": (0, 1),
}
"""Settings of the objectives and their ranges."""


@register(
    "open-set",
    title="Open-set classifier",
    paper="Kirchheim et al., PyTorch-OOD: A Library for Out-of-Distribution Detection based on PyTorch, CVPR Workshops",
    year=2022,
    url="https://github.com/kkirchheim/pytorch-ood",
    needs=("features", "labels"),
    uses=("outliers",),
)
class OpenSet(ObjectiveHead):
    """Score a network trained with one of several open-set objectives.

    Without outliers: cross-entropy, logit-norm (logits of fixed norm), confidence (learned confidence estimates),
    vos (virtual outliers), center, cac, ii, mchad (distances to class centres), deep-svdd (distance to one centre).
    Only with outliers (--outliers): outlier-exposure, mixture-outlier-exposure, entropic, objectosphere,
    background (one additional class), energy-bounded, scone (constrained false alarms), deep-sad. In the first
    group, only vos and mchad use outliers if given.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {**ObjectiveHead.testing_options, "objective": "cac"}

    objective: str = option("cross-entropy", "training objective", choices=tuple(OBJECTIVES))
    which: str = option(
        "auto",
        "score: the objective's own, or a score of the logits (deep-svdd and deep-sad have only their own)",
        choices=("auto", *LOGIT_SCORES),
    )
    weight: float | None = option(
        None, "weight of the objective's own term (default: the value of its paper)"
    )
    margin: float | None = option(
        None,
        "distance in the objective: of outliers from centres (mchad), between classes (ii), of anchors (cac) and "
        "features (objectosphere) from 0, of known rows from the boundary (scone), largest distance from the centre "
        "without penalty (center, deep-svdd)",
    )
    temperature: float | None = option(None, "inverse norm of the logits (logit-norm; default: 0.04)")
    latent: int | None = option(None, "dimension of the embedding (ii, mchad, deep-*; default: 32)")
    pretraining: float | None = option(
        None, "share of the epochs that train by cross-entropy only (energy-bounded, scone; default: 0.5)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.which not in self.scores:
            raise UsageError(f"{self.display_name} has no score {self.which!r}, only its own; omit --which")
        defaults = self.network().defaults
        for name, value in self.settings().items():
            low, high = LIMITS[name]
            if name not in defaults:
                raise UsageError(f"{self.display_name} has no option {name}; omit it")
            if not isinstance(value, int | float) or not low <= value <= high:
                raise UsageError(
                    f"{self.display_name}: {name} must be a number from {low} to {high}, not {value!r}"
                )

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of its scores; only one if the objective does not classify."""
        return self.card.scores if self.network().classifies else self.card.scores[:1]

    @property
    def takes_outliers(self) -> bool:
        """Whether the objective learns from outliers."""
        return self.network().outliers != "ignored"

    def network(self) -> type[ObjectiveNet]:
        """Return the class of the network for the objective."""
        return OBJECTIVES[self.objective]

    def settings(self) -> dict[str, float]:
        """Return the settings that are not None."""
        values = {name: getattr(self, name) for name in LIMITS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def display_name(self) -> str:
        """The head's name and its objective."""
        return f"{self.name} --objective {self.objective}"
