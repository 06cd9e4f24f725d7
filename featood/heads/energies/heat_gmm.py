"""HEAT on a Gaussian mixture."""

from __future__ import annotations

__all__ = ["HEATGMM"]

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.clusters import cluster_centers
from featood.heads.base.fit import State
from featood.heads.base.moments_head import class_moments
from featood.heads.base.rows import SelectedRows
from featood.heads.energies._priors import FREE, GaussianPrior
from featood.heads.energies._residual_head import PUBLISHED, ResidualHead
from featood.heads.registry import register
from featood.numerics.gaussian import Whitening, squared_distances, whitening
from featood.numerics.moments import ClassMoments
from featood.options import option

_GAUSSIAN = {**PUBLISHED, "prior_temperature": 1e3, "proposals": "prior", "ridge": 1e-6}


@register(
    "heat-gmm",
    title="HEAT on a Gaussian mixture",
    paper="Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML",
    year=2023,
    url="https://arxiv.org/abs/2305.16966",
    needs=("features", "labels"),
)
class HEATGMM(ResidualHead):
    """Score the energy of a Gaussian mixture, corrected by a learned residual energy.

    The mixture has the class means, the class frequencies, and one covariance around the class means. In directions
    with a variance below ``step_size / (2 * prior_temperature)``, Langevin steps overshoot by growing amounts and
    samples diverge from the prior; a warning then gives the `ridge` or the `step_size` that would prevent it. On 342
    features of a DenseNet, whose smallest variances are below that bound, a ridge of 1e-2 also improved the prior by
    one point of AUROC; the published code adds 1e-12 to the variances and uses the same sampler.
    """

    proposals: str = option(
        "between",
        "samples of the mixture, of Gaussians between the means of two classes, or by the batch's labels with wide "
        "deviations; standard normal rows, uniform rows on [-2, 2], or the batch itself",
        choices=("prior", "between", "wide", *FREE),
    )
    covariance: str = option(
        "tied",
        "covariance shared by all components: tied (a matrix), or diag (variances only)",
        choices=("tied", "diag"),
    )
    clusters: int = option(0, "number of k-means clusters in place of the classes (0: the classes)", low=0)
    ridge: float = option(
        1e-2, "smallest ridge on the prior's covariance, relative to its mean variance", low=0, high=1
    )
    simplified: bool = option(
        False, "let a chain follow the Gaussian it was drawn from instead of the mixture"
    )

    # settings of the published scripts; their numbers of updates assume 50,000 and 1,281,167 rows
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {
            **_GAUSSIAN, "sgld_steps": 40, "l2": 10.0, "batch_size": 1024, "epochs": 20, "updates": 976,
        },
        "cifar100": {
            **_GAUSSIAN, "sgld_steps": 20, "step_size": 2e-4, "noise": 1e-3, "l2": 20.0, "batch_size": 1024,
            "epochs": 20, "updates": 976,
        },
        "imagenet": {
            **_GAUSSIAN,
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.simplified and (self.buffer_size or self.proposals in FREE):
            other = "buffer_size" if self.buffer_size else f"proposals={self.proposals}"
            raise UsageError(
                f"{self.name}: with {other}, a chain does not start from a Gaussian to follow; omit simplified"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Labels, unless there are clusters in place of the classes."""
        return tuple(name for name in super().needs if name != "labels" or not self.clusters)

    def fit_prior(self, train: SelectedRows) -> State:
        """Factorise the covariance around the means of the classes or clusters, and whiten the means."""
        centers = {}
        if self.clusters:
            centers["centers"] = cluster_centers(train, self.vectors, self.clusters, self.seed, self.name)
            moments = None
            for block in train.blocks():
                moments = ClassMoments.of(self.vectors(block), self.assigned(block, centers), moments)
            assert moments is not None
        else:
            moments = class_moments(self, train)
        covariance = moments.within_covariance()
        if self.covariance == "diag":
            covariance = covariance.diagonal().diag()
        map_ = whitening(moments.mean(), covariance, self.ridge, "the tied covariance")
        if self.sgld_steps and (reason := instability(map_.matrix, self.step_size, self.prior_temperature)):
            warnings.warn(f"{self.name}: {reason}", stacklevel=2)
        weights = moments.count / moments.rows
        return {**map_._asdict(), "means": map_(moments.means()), "weights": weights, **centers}

    def assigned(self, block: FeatureSet, state: State) -> Tensor:
        """Return the class or the cluster ``[B]`` of each row of a block."""
        if not self.clusters:
            return super().assigned(block, state)
        return squared_distances(self.vectors(block).double(), state["centers"].double()).argmin(1)

    def prior(self, state: State) -> GaussianPrior:
        """Make the mixture."""
        small = {name: value if name == "center" else value.float() for name, value in state.items()}
        map_ = Whitening(*(small[name] for name in Whitening._fields))
        return GaussianPrior(map_, small["means"], small["weights"], self.proposals, self.simplified)


def instability(matrix: Tensor, step_size: float, temperature: float) -> str:
    """Return why Langevin steps on the energy of a Gaussian are unstable, or an empty string if they are stable.

    A step multiplies a deviation along a direction of variance v by ``1 - step_size / (temperature * v)``, whose
    absolute value exceeds 1 if ``v < step_size / (2 * temperature)``.

    Parameters
    ----------
    matrix : Tensor
        ``[D, D]`` that whitens rows, ``rows @ matrix``.
    step_size, temperature : float
        Initial, i.e. largest, step size; divisor of the energy.
    """
    variances = torch.linalg.svdvals(matrix).square().reciprocal()
    bound = step_size / (2 * temperature)
    narrow, least = int((variances <= bound).sum()), float(variances.min())
    if not narrow:
        return ""
    return (
        f"the sampler is unstable: {narrow} of the prior's {len(variances)} variances (smallest {least:.1e}) are "
        f"not above step_size / (2 * prior_temperature) = {bound:.1e}; use a ridge above "
        f"{bound / float(variances.mean()):.0e} or a step_size below {2 * temperature * least:.0e}"
    )
