"""HEAT on the energy of the classifier."""

from __future__ import annotations

__all__ = ["HEATEL"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.heads.base.feature_head import RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.rows import SelectedRows
from featood.heads.energies._priors import ClassifierPrior
from featood.heads.energies._residual_head import LOSSES, PUBLISHED, ResidualHead
from featood.heads.registry import register
from featood.options import option


@register(
    "heat-el",
    title="HEAT on the energy of the logits",
    paper="Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML",
    year=2023,
    url="https://arxiv.org/abs/2305.16966",
    needs=("features", "classifier"),
)
class HEATEL(RawFeatures, ResidualHead):
    """Score the free energy of the logits, corrected by a learned residual energy.

    By default, the proposals are normal rows around zero, far from the data, so a classifier of both has no finite
    optimum; contrastive divergence keeps the residual between -1 / (2 l2) and 1 / (2 l2).
    """

    step_size: float = option(0.1, "initial step size; that of Langevin steps decays to a tenth", low=0)
    noise: float = option(0.1, "initial standard deviation of the Langevin noise, decayed to a tenth", low=0)
    loss: str = option("cd", "contrastive divergence, or noise-contrastive estimation", choices=tuple(LOSSES))
    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)
    updates: int = option(
        300, "number of updates, in place of `epochs` (0: the updates of `epochs` passes)", low=0
    )

    # settings of the published scripts; their numbers of updates assume 50,000 and 1,281,167 rows
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {**PUBLISHED, "sgld_steps": 50, "l2": 0.1, "epochs": 20, "updates": 3900},
        "cifar100": {
            **PUBLISHED, "sgld_steps": 200, "noise": 1e-2, "l2": 1.0, "batch_size": 1024, "epochs": 8, "updates": 390,
        },
        "imagenet": {
            **PUBLISHED,
            "prior_temperature": 5e2,
            "layout": "halving",
            "sgld_steps": 40,
            "step_size": 1e3,
            "noise": 1e-3,
            "l2": 20.0,
            "epochs": 8,
            "updates": 4000,
            "accumulate": 10,
        },
    }  # fmt: skip

    def fit_prior(self, train: SelectedRows) -> State:
        """Take the classifier's weight and bias."""
        return classifier_state(train, self.feature)

    def prior(self, state: State) -> ClassifierPrior:
        """Make the energy of the logits."""
        return ClassifierPrior(state["weight"], state["bias"], self.proposals)
