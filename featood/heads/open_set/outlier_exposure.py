"""Outlier exposure."""

from __future__ import annotations

__all__ = ["OutlierExposure"]

from featood.heads.open_set import _classifiers
from featood.heads.open_set._network import ObjectiveNet
from featood.heads.open_set._objective_head import ObjectiveHead
from featood.heads.registry import register
from featood.options import option


@register(
    "outlier-exposure",
    title="Outlier exposure",
    paper="Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR",
    year=2019,
    url="https://arxiv.org/abs/1812.04606",
    needs=("features", "labels", "outliers"),
)
class OutlierExposure(ObjectiveHead):
    """Score a classifier of the features trained to be uncertain on outliers."""

    which: str = option(
        "msp",
        "1 - largest probability, free energy, or negated largest logit",
        choices=("msp", "energy", "max-logit"),
    )
    weight: float = option(0.5, "weight of the outliers' cross-entropy to the uniform distribution", low=0)

    def network(self) -> type[ObjectiveNet]:
        """Return the classifier."""
        return _classifiers.OutlierExposure

    def settings(self) -> dict[str, float]:
        """Return the weight."""
        return {"weight": self.weight}
