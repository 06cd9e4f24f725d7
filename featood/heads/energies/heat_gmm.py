"""HEAT upon a Gaussian mixture."""

from __future__ import annotations

__all__ = ["HeatGmm"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from featood.heads.base import State
from featood.heads.energies.priors import GaussianPrior
from featood.heads.energies.residual_energy import ResidualHead
from featood.heads.registry import option, register
from featood.heads.rows import SelectedRows
from featood.numerics.gaussian import Whitening, whitening
from featood.numerics.moments import ClassMoments

RIDGE = 1e-6
"""Ridge on the covariance, relative to the mean variance; narrower directions make the sampler unstable."""


@register(
    "heat-gmm",
    title="HEAT on a Gaussian mixture",
    paper="Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML",
    year=2023,
    url="https://arxiv.org/abs/2305.16966",
    needs=("features", "labels"),
)
class HeatGmm(ResidualHead):
    """Score a Gaussian mixture's energy, corrected by a network that learns what the mixture gets wrong.

    The mixture has the class means, the class frequencies, and one covariance around the class means.
    """

    proposals: str = option(
        "prior",
        "where chains start: rows drawn from the mixture, or by the batch's labels with wide deviations",
        choices=("prior", "wide"),
    )
    simplified: bool = option(False, "let a chain follow the Gaussian it was drawn from, not the mixture")

    # the published settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {},
        "cifar100": {"sgld_steps": 20, "step_size": 2e-4, "noise": 1e-3, "l2": 20.0, "epochs": 20},
        "imagenet": {
            "prior_temperature": 5e3,
            "proposals": "wide",
            "simplified": True,
            "layout": "halving",
            "depth": 6,
            "sgld_steps": 10,
            "step_size": 1e-7,
            "noise": 1e-4,
            "l2": 10.0,
            "lr": 1e-4,
            "milestone": 1,
            "epochs": 8,
            "accumulate": 20,
        },
    }

    def fit_prior(self, train: SelectedRows) -> State:
        """Factorise the covariance around the class means, and whiten the means."""
        moments = None
        for block in train.blocks():
            rows = self.vectors(block).double()
            rows = F.normalize(rows) if self.normalize else rows
            moments = ClassMoments.of(rows, torch.as_tensor(block.labels), moments)
        assert moments is not None
        map_ = whitening(moments.mean(), moments.within_covariance(), RIDGE, "the tied covariance")
        return {**map_._asdict(), "means": map_(moments.means()), "weights": moments.count / moments.rows}

    def prior(self, state: State) -> GaussianPrior:
        """Make the mixture."""
        small = {name: value if name == "center" else value.float() for name, value in state.items()}
        map_ = Whitening(*(small[name] for name in Whitening._fields))
        return GaussianPrior(
            map_, small["means"], small["weights"], self.proposals == "wide", self.simplified
        )
