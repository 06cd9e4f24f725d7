"""Watanabe-Akaike information criterion of an ensemble of densities."""

from __future__ import annotations

__all__ = ["WAIC"]

from typing import Any

from torch import Tensor

from featood.cache.densities import DENSITIES, is_energy
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.options import option

PREFIX = "ensemble."


@register(
    "waic",
    title="Information criterion of an ensemble of densities",
    paper="Choi et al., WAIC, but Why? Generative Ensembles for Robust Anomaly Detection, arXiv",
    year=2018,
    url="https://arxiv.org/abs/1810.01392",
    needs=("features",),
    learns=False,
)
class WAIC(RawFeatures, FeatureHead):
    """Score ``-(mean - variance)`` of the log-densities of an ensemble, in nats; the variance is over the S members.

    An input is normal if all members find it likely, and anomalous if they disagree. ``featood cache join`` joins the
    sets of networks that were trained with different seeds. Energies are accepted, but each network's has a constant of
    its own, which adds to the variance of all inputs.
    """

    feature: str = option("", f"column of the members' densities (default: the first with {PREFIX} in front)")

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the column.

        Raises
        ------
        DataError
            If there is none.
        """
        known = (PREFIX + column for column in DENSITIES)
        found = self.feature or next((name for name in known if name in source.features), "")
        if not found:
            raise DataError(
                f"{self.name}: {source.name} has no densities of several networks: join the sets of networks that are "
                "trained as densities by featood cache join"
            )
        return [found]

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated criteria ``[B]``.

        Raises
        ------
        DataError
            If the column has the density of one network only.
        """
        (name,) = self.columns(block)
        values = block.feature(name)[:].double()
        if values.shape[1] < 2:
            raise DataError(
                f"{self.name}: {name} has one number for each row; name a column of several networks"
            )
        mean = values.mean(1)
        return values.var(1, correction=0) + (mean if is_energy(name) else -mean)
