"""Share of the feature that lies in the principal subspace, as neural collapse predicts it."""

from __future__ import annotations

__all__ = ["NECO"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.declaration import option
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.last_layer import centred_logits, warn_of_centring
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ClassMoments
from featood.numerics.subspaces import Subspace, explaining, principal_axes, subspace


@register(
    "neco",
    title="Neural collapse based detection (NECO)",
    paper="Ammar et al., NECO: NEural Collapse Based Out-of-distribution detection, ICLR",
    year=2024,
    url="https://arxiv.org/abs/2310.06823",
    needs=("features", "logits"),
)
class NECO(StreamingHead):
    """Score ``-|P z| / |z| max(logits)`` of standardised features z, P projecting on their principal subspace.

    The authors leave out the largest logit for ResNets (``--no-max-logit``). A feature that is constant in
    training is scaled by the mean standard deviation of the others. Higher means more out-of-distribution.

    A constant on all logits, which the softmax does not tell, changes the score; where the mean largest logit of the
    training rows is not positive, the score would turn around, and the logits are centred over the classes first,
    which a warning says.
    """

    dim: int = option(0, "dimension of the principal subspace (0: as `explained` says)", low=0)
    explained: float = option(0.9, "share of the variance that the subspace explains", low=1e-6, high=1)
    max_logit: bool = option(True, "multiply by the largest logit")

    def accumulate(self, statistics: tuple[ClassMoments, float] | None, block: FeatureSet) -> Any:
        """Add a block's rows to the moments, and their largest logits."""
        assert block.logits is not None
        moments, largest = statistics or (None, 0.0)
        moments = ClassMoments.of(self.vectors(block), None, moments)
        return moments, largest + float(block.logits[:].double().amax(1).sum())

    def finish(self, statistics: tuple[ClassMoments, float], train: SelectedRows) -> State:
        """Standardise and split the space."""
        moments, largest = statistics
        if centred := self.max_logit and largest <= 0:
            warn_of_centring(self.name, "the mean largest logit", largest / moments.rows)
        covariance = moments.covariance()
        variance = covariance.diagonal()
        alive = variance > 1e-12 * variance.amax()
        if not bool(alive.any()):
            raise DataError(f"neco: every row of {train.source.name} is the same; other rows are needed")
        scale = variance.clamp(min=0).sqrt()
        scale = torch.where(alive, scale, scale[alive].mean())
        values, axes = principal_axes(covariance / torch.outer(scale, scale))
        space = subspace(axes, min(self.dim or explaining(values, self.explained), len(values)))
        state = {"mean": moments.mean(), "std": scale, **space._asdict()}
        return {**state, "centred": torch.tensor(centred)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated share, times the largest logit ``[B]``."""
        assert block.logits is not None
        rows = (self.vectors(block).double() - fitted["mean"]) / fitted["std"]
        inside = Subspace(fitted["basis"], fitted["direct"]).norms(rows)[0]
        share = inside / rows.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
        if not self.max_logit:
            return -share
        logits = block.logits[:].double()
        centred = "centred" in fitted and bool(fitted["centred"])  # not in artefacts of old
        return -share * (centred_logits(logits) if centred else logits).amax(1)
