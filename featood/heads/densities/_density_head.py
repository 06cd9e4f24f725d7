"""Base of the heads that read a column with a density of the inputs."""

from __future__ import annotations

__all__ = ["DensityHead", "density_column"]

import dataclasses

from torch import Tensor

from featood.cache.densities import DENSITIES, is_energy
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.options import option


def density_column(source: FeatureSet, name: str = "") -> str:
    """Return the name of a set's column of a density: `name`, or the first of `DENSITIES`.

    Raises
    ------
    DataError
        If there is none.
    """
    found = name or next((column for column in DENSITIES if column in source.features), "")
    if not found:
        raise DataError(
            f"{source.name} has no column of a density ({', '.join(DENSITIES)}): extract with a network that is "
            "trained as one, such as featood train glow or featood train jem"
        )
    return found


@dataclasses.dataclass(kw_only=True, eq=False)
class DensityHead(RawFeatures, FeatureHead):
    """A head on the log-density, or the energy, that a network computed of its inputs."""

    feature: str = option("", f"column of the density (default: the first of {', '.join(DENSITIES)})")

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the column."""
        return [density_column(source, self.feature)]

    def log_densities(self, block: FeatureSet, column: str = "") -> Tensor:
        """Return the log-densities ``[B]`` in nats, or the negated energies, of a column, by default the density's.

        Raises
        ------
        DataError
            If the column has more than one number for each row.
        """
        name = column or density_column(block, self.feature)
        values = self.numbers(block, name)
        return -values if is_energy(name) else values
