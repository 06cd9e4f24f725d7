"""One head for all objectives of open-set classification."""

from __future__ import annotations

__all__ = ["OBJECTIVES", "OpenSet"]

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from featood.errors import UsageError
from featood.heads.base.declaration import option
from featood.heads.open_set import _classifiers, _embeddings
from featood.heads.open_set._finetuned import BoundedEnergy, Constrained
from featood.heads.open_set._network import LOGIT_SCORES, ObjectiveNet
from featood.heads.open_set._objective_head import ObjectiveHead
from featood.heads.open_set._virtual_outliers import VirtualOutliers
from featood.heads.registry import register

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
"""Settings of the objectives, and between what they lie."""


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
    """Score a network trained by one of the objectives that make outliers show.

    Without outliers: cross-entropy, logit-norm (logits of one length), confidence (a learned price for hints),
    vos (virtual outliers), center, cac, ii, mchad (distances to centres of the classes), deep-svdd (to one).
    Only with outliers (--outliers): outlier-exposure, mixture-outlier-exposure, entropic, objectosphere,
    background (one more class), energy-bounded, scone (few false alarms as a constraint), deep-sad. Of the first
    group, only vos and mchad learn from outliers too.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {**ObjectiveHead.testing_options, "objective": "cac"}

    objective: str = option("cross-entropy", "what is minimised", choices=tuple(OBJECTIVES))
    which: str = option(
        "auto",
        "score: the objective's own, or one of the logits (deep-svdd and deep-sad have their own alone)",
        choices=("auto", *LOGIT_SCORES),
    )
    weight: float | None = option(None, "of the objective's own term (default: that of its paper)")
    margin: float | None = option(
        None,
        "distance that the objective asks for: outliers from centres (mchad), classes from each other (ii), anchors "
        "(cac) and features (objectosphere) from 0, known rows from the boundary (scone), at most from the centre "
        "(center, deep-svdd)",
    )
    temperature: float | None = option(None, "inverse length of the logits (logit-norm; default: 0.04)")
    latent: int | None = option(None, "dimensions of the space of distances (ii, mchad, deep-*; default: 32)")
    pretraining: float | None = option(
        None, "share of the epochs of cross-entropy alone (energy-bounded, scone; default: 0.5)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.which not in self.scores:
            raise UsageError(f"{self.told} has no score {self.which!r}, only its own; leave --which out")
        defaults = self.network().defaults
        for name, value in self.settings().items():
            low, high = LIMITS[name]
            if name not in defaults:
                raise UsageError(f"{self.told} has no {name}; leave it out")
            if not isinstance(value, int | float) or not low <= value <= high:
                raise UsageError(f"{self.told}: {name} must be a number from {low} to {high}, not {value!r}")

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of its scores; one only where the objective tells no classes apart."""
        return self.card.scores if self.network().classifies else self.card.scores[:1]

    @property
    def takes_outliers(self) -> bool:
        """Whether the objective learns from outliers."""
        return self.network().outliers != "ignored"

    def network(self) -> type[ObjectiveNet]:
        """Return the kind of network that the objective needs."""
        return OBJECTIVES[self.objective]

    def settings(self) -> dict[str, float]:
        """Return the settings that were given."""
        values = {name: getattr(self, name) for name in LIMITS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def told(self) -> str:
        """The head with its objective."""
        return f"{self.name} --objective {self.objective}"
