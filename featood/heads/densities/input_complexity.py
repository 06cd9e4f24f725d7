"""Log-density relative to the length of the compressed input."""

from __future__ import annotations

__all__ = ["InputComplexity"]

import math
from typing import Any

from torch import Tensor

from featood.cache.densities import is_energy
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.densities._density_head import DensityHead
from featood.heads.registry import register
from featood.options import option


@register(
    "input-complexity",
    title="Likelihood relative to the complexity",
    paper="Serra et al., Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models, "
    "ICLR",
    year=2020,
    url="https://arxiv.org/abs/1909.11480",
    needs=("features",),
    learns=False,
)
class InputComplexity(DensityHead):
    """Score ``-log2 p(x) - L(x)`` in bits, with L the length of the losslessly compressed input.

    A compressor is a density too, ``2^-L(x)``. The ratio of both is large for inputs that the network
    describes worse than a compressor for any images does. The column of L is extracted by ``--with complexity``.
    """

    complexity: str = option("complexity", "column with the bits of the compressed input")

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns of the density and of the complexity.

        Raises
        ------
        DataError
            If the density is an energy.
        """
        (density,) = super().columns(source)
        if is_energy(density):
            raise DataError(
                f"{self.name}: the column {density} of {source.name} has no unit, so it cannot be compared with bits; "
                "extract with a network that is a density, such as one of featood train glow or featood train vae"
            )
        return [density, self.complexity]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the differences ``[B]``."""
        return -self.log_densities(block) / math.log(2) - self.numbers(block, self.complexity)
