"""The log-density, or the energy, that a network computed of its inputs."""

from __future__ import annotations

__all__ = ["Likelihood", "density_column"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option

COLUMNS = ("log-density", "evidence-bound", "energy")
"""Columns that networks trained as densities have; energies are low for likely inputs."""


def density_column(source: FeatureSet, name: str = "") -> str:
    """Return the name of a set's column of a density: `name`, or the first of `COLUMNS`.

    Raises
    ------
    DataError
        If there is none.
    """
    found = name or next((column for column in COLUMNS if column in source.features), "")
    if not found:
        raise DataError(
            f"{source.name} has no column of a density ({', '.join(COLUMNS)}): extract with a network that is trained "
            "as one, such as featood train glow or featood train jem"
        )
    return found


@register(
    "likelihood",
    title="Likelihood of the inputs",
    paper="Bishop, Novelty Detection and Neural Network Validation, IEE Proc. Vision, Image and Signal Processing",
    year=1994,
    url="https://doi.org/10.1049/ip-vis:19941330",
    needs=("features",),
    learns=False,
)
class Likelihood(RawFeatures, FeatureHead):
    """Score ``-log p(x)`` in nats, by a network that is a density of its inputs, or its energy.

    Densities of images also depend on their complexity: they are often higher for images simpler than those of the
    training (Nalisnick et al., Do Deep Generative Models Know What They Don't Know?, ICLR 2019).
    """

    feature: str = option("", f"column of the density (default: the first of {', '.join(COLUMNS)})")

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the column."""
        return [density_column(source, self.feature)]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated log-densities, or the energies ``[B]``.

        Raises
        ------
        DataError
            If the column has more than one number for each row.
        """
        name = density_column(block, self.feature)
        values = block.feature(name)[:].double()
        if values.shape[1] != 1:
            raise DataError(
                f"{self.name}: {name} has {values.shape[1]} numbers for each row; name a column with one"
            )
        return values[:, 0] if name == "energy" else -values[:, 0]
