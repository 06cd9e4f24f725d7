"""Reconstruction error of a kernel principal component analysis by random Fourier features."""

from __future__ import annotations

__all__ = ["KernelPCA"]

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ClassMoments
from featood.numerics.spaces import unit
from featood.numerics.subspaces import Subspace, explaining, principal_axes, subspace
from featood.options import option


class MappedMoments(NamedTuple):
    """Moments of mapped rows, and the map."""

    map_: State
    moments: ClassMoments

    def merge(self, other: Self) -> Self:
        """Combine with the moments of other rows under the same map."""
        return self._replace(moments=self.moments.merge(other.moments))

    def without_rows(self) -> Self:
        """Return moments of no rows under the same map."""
        return self._replace(moments=self.moments.without_rows())


@register(
    "kpca",
    title="Kernel PCA (CoP, CoRP)",
    paper="Fang et al., Kernel PCA for Out-of-Distribution Detection, NeurIPS",
    year=2024,
    url="https://arxiv.org/abs/2402.02949",
    needs=("features",),
)
class KernelPCA(StreamingHead):
    """Score the reconstruction error of ``phi(z / |z|)`` from its leading principal components.

    ``cosine-gaussian`` (CoRP) maps the unit vector u to ``sqrt(2 / M) cos(W u + c)``, whose inner products
    approximate ``exp(-gamma |u - v|^2)``; ``cosine`` (CoP) uses u itself. The presets have the values of the authors'
    scripts for CoRP on ResNets trained without contrastive loss; for CoP the scripts use an explained variance of 0.85
    (CIFAR-10) and 0.99 (ImageNet). The authors draw the random features without a seed. Higher means more
    out-of-distribution.
    """

    kernel: str = option("cosine-gaussian", "kernel", choices=("cosine-gaussian", "cosine"))
    explained: float = option(0.8, "share of the variance that the components explain", low=1e-6, high=1)
    gamma: float = option(2.0, "inverse width of the Gaussian kernel", low=0)
    size: int = option(2048, "random features M of the Gaussian kernel", low=1)
    seed: int = option(0, "seed of the random features", low=0, high=2**32 - 1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"explained": 0.8, "gamma": 2.0, "size": 2048},
        "imagenet": {"explained": 0.5, "gamma": 3.0, "size": 4096},
    }
    testing_options: ClassVar[Mapping[str, Any]] = {"size": 128}

    def accumulate(self, statistics: MappedMoments | None, block: FeatureSet) -> MappedMoments:
        """Add a block's mapped rows to the moments; the map is drawn at the first block."""
        rows = self.vectors(block)
        map_, moments = statistics or (self._draw(rows), None)
        return MappedMoments(map_, ClassMoments.of(_mapped(rows, map_), None, moments))

    def finish(self, statistics: MappedMoments, train: SelectedRows) -> State:
        """Compute the principal subspace of the mapped rows around their mean."""
        map_, moments = statistics
        values, axes = principal_axes(moments.covariance())
        space = subspace(axes, values, explaining(values, self.explained))
        return {"mean": moments.mean(), **space._asdict(), **map_}

    def prepare(self, state: State) -> Any:
        """Restore the subspace."""
        return {**state, "space": Subspace.of(state)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the reconstruction error ``[B]``."""
        rows = _mapped(self.vectors(block), fitted)
        return fitted["space"].outside(rows, fitted["mean"])

    def _draw(self, rows: Tensor) -> State:
        if self.kernel == "cosine":
            return {}
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(rows.shape[1], self.size, generator=generator) * math.sqrt(2 * self.gamma)
        phases = 2 * math.pi * torch.rand(self.size, generator=generator)
        return {"directions": directions.to(rows.device), "phases": phases.to(rows.device)}


def _mapped(rows: Tensor, map_: Mapping[str, Tensor]) -> Tensor:
    """Return unit vectors, or their random Fourier features, in the precision of the rows."""
    rows = unit(rows)
    if "directions" not in map_:
        return rows
    angles = torch.addmm(map_["phases"].to(rows), rows, map_["directions"].to(rows))
    return angles.cos_().mul_(math.sqrt(2 / len(map_["phases"])))
