"""Log-density relative to that of a second network."""

from __future__ import annotations

__all__ = ["LikelihoodRatio"]

from typing import Any

from torch import Tensor

from featood.cache.densities import DENSITIES
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.densities._density_head import DensityHead
from featood.heads.registry import register
from featood.options import option

PREFIX = "background."


@register(
    "likelihood-ratio",
    title="Likelihood ratio",
    paper="Ren et al., Likelihood Ratios for Out-of-Distribution Detection, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1906.02845",
    needs=("features",),
    learns=False,
)
class LikelihoodRatio(DensityHead):
    """Score ``-(log p(x) - log p_background(x))`` in nats; higher means more out-of-distribution.

    The background is trained like the network, but on images in which pixels are replaced at random, so that it learns
    little of their content: ``featood train ... --augment mutate:0.1``, then ``featood extract --background FOLDER``.
    """

    background: str = option(
        "", f"column of the background (default: {PREFIX} and the column of the density)"
    )

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns of the density and of the background.

        Raises
        ------
        DataError
            If there is no column of a background.
        """
        (density,) = super().columns(source)
        return [density, self._background(source, density)]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated log-ratios ``[B]``."""
        density, background = self.columns(block)
        return self.log_densities(block, background) - self.log_densities(block, density)

    def _background(self, source: FeatureSet, density: str) -> str:
        name = self.background or PREFIX + density
        if name not in source.features:
            others = [PREFIX + column for column in DENSITIES if PREFIX + column in source.features]
            raise DataError(
                f"{self.name}: {source.name} has no column {name}"
                + (
                    f", but {others[0]}: name it by --background to compare it with {density}"
                    if others
                    else ""
                )
                + ("" if others else ": extract with --background FOLDER, a network of featood train")
            )
        return name
