"""HEAT upon a Gaussian mixture."""

from __future__ import annotations

__all__ = ["HEATGMM"]

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.heads.base.declaration import option
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.energies._priors import GaussianPrior
from featood.heads.energies._residual_head import ResidualHead
from featood.heads.registry import register
from featood.numerics.gaussian import Whitening, whitening
from featood.numerics.moments import ClassMoments


@register(
    "heat-gmm",
    title="HEAT on a Gaussian mixture",
    paper="Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML",
    year=2023,
    url="https://arxiv.org/abs/2305.16966",
    needs=("features", "labels"),
)
class HEATGMM(ResidualHead):
    """Score a Gaussian mixture's energy, corrected by a network that learns what the mixture gets wrong.

    The mixture has the class means, the class frequencies, and one covariance around the class means. Where a variance
    of it is below half the step size over the prior's temperature, Langevin steps overshoot ever farther along it and
    samples leave the prior for good; a warning then says how much more `ridge`, or how short a step, would keep them.
    On 342 features of a DenseNet, whose least variances are of that kind, a ridge of 1e-2 made the prior better by one
    point of AUROC as well; the published code adds 1e-12 to the variances, and has the same sampler.
    """

    proposals: str = option(
        "prior",
        "where chains start: rows drawn from the mixture, or by the batch's labels with wide deviations",
        choices=("prior", "wide"),
    )
    ridge: float = option(
        1e-6, "least ridge on the prior's covariance, relative to its mean variance", low=0, high=1
    )
    simplified: bool = option(False, "let a chain follow the Gaussian it was drawn from, not the mixture")

    # the settings of the published scripts, whose updates are counted for 50,000 and 1,281,167 rows
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"batch_size": 1024, "epochs": 20, "updates": 976},
        "cifar100": {
            "sgld_steps": 20, "step_size": 2e-4, "noise": 1e-3, "l2": 20.0, "batch_size": 1024, "epochs": 20,
            "updates": 976,
        },
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
            "updates": 2000,
            "accumulate": 20,
        },
    }  # fmt: skip

    def fit_prior(self, train: SelectedRows) -> State:
        """Factorise the covariance around the class means, and whiten the means."""
        moments = None
        for block in train.blocks():
            moments = ClassMoments.of(self.vectors(block), torch.as_tensor(block.labels), moments)
        assert moments is not None
        map_ = whitening(moments.mean(), moments.within_covariance(), self.ridge, "the tied covariance")
        if self.sgld_steps and (told := instability(map_.matrix, self.step_size, self.prior_temperature)):
            warnings.warn(f"{self.name}: {told}", stacklevel=2)
        return {**map_._asdict(), "means": map_(moments.means()), "weights": moments.count / moments.rows}

    def prior(self, state: State) -> GaussianPrior:
        """Make the mixture."""
        small = {name: value if name == "center" else value.float() for name, value in state.items()}
        map_ = Whitening(*(small[name] for name in Whitening._fields))
        return GaussianPrior(
            map_, small["means"], small["weights"], self.proposals == "wide", self.simplified
        )


def instability(matrix: Tensor, step_size: float, temperature: float) -> str:
    """Say why Langevin steps on a Gaussian's energy cannot be stable; nothing where they can.

    A step multiplies a deviation along a direction of variance v by ``1 - step_size / (temperature * v)``, whose size
    is above 1 where ``v < step_size / (2 * temperature)``.

    Parameters
    ----------
    matrix : Tensor
        ``[D, D]`` that whitens rows, ``rows @ matrix``.
    step_size, temperature : float
        First, and so the largest, step size; divisor of the energy.
    """
    variances = torch.linalg.svdvals(matrix).square().reciprocal()
    bound = step_size / (2 * temperature)
    narrow, least = int((variances <= bound).sum()), float(variances.min())
    if not narrow:
        return ""
    return (
        f"the sampler cannot be stable: {narrow} of the prior's {len(variances)} variances, the least {least:.1e}, are "
        f"not above step_size / (2 * prior_temperature) = {bound:.1e}; use a ridge above "
        f"{bound / float(variances.mean()):.0e} or a step_size below {2 * temperature * least:.0e}"
    )
