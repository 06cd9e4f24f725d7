"""Virtual logit: the residual of the principal subspace, compared with the logits."""

from __future__ import annotations

__all__ = ["ViM"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import centred, classifier_state, linear_logits, warn_of_centring
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.heads.subspaces.residual import origin, principal_space
from featood.numerics.moments import ClassMoments
from featood.numerics.softmax import logsumexp
from featood.numerics.subspaces import Subspace
from featood.options import option


@register(
    "vim",
    title="Virtual-logit matching (ViM)",
    paper="Wang et al., ViM: Out-of-Distribution with Virtual-Logit Matching, CVPR",
    year=2022,
    url="https://arxiv.org/abs/2203.10807",
    needs=("features", "classifier"),
)
class ViM(RawFeatures, FeatureHead):
    """Score ``a r(z) - logsumexp(W z + b)``, r being the norm of ``z - u`` outside the principal subspace.

    ``u = -pinv(W) b``; a is the ratio of the mean largest logit to the mean residual of the training rows. Higher means
    more out-of-distribution.

    Adding a constant to all biases leaves the softmax unchanged, but changes u and a. The score is as published if the
    mean largest logit is positive; otherwise a would be negative and large residuals would count as in-distribution.
    In that case weights and biases are centred over the classes first, which makes the mean largest logit positive and
    the score independent of such constants; this is reported in a warning and in the artefact's notes.
    """

    dim: int = option(
        0, "dimension of the principal subspace (0: 1000, 512 or half, depending on the feature size)", low=0
    )

    def fit_state(self, train: SelectedRows) -> State:
        """Compute the subspace in a first pass and the scale of the residual in a second."""
        layer = classifier_state(train, self.feature)
        moments, largest = None, 0.0
        for block in train.blocks():
            rows = self.vectors(block)
            moments = ClassMoments.of(rows, None, moments)
            largest += float(linear_logits(rows, layer).amax(1).double().sum())
        if moments is None:
            raise DataError(f"{train.source.name} has no rows to fit on")
        if flipped := largest <= 0:
            warn_of_centring(self.name, "the mean largest logit", largest / moments.rows)
            layer, largest = centred(layer), 0.0
        center = origin(layer)
        space = principal_space(moments, center, self.dim)
        residual = 0.0
        for block in train.blocks():
            rows = self.vectors(block)
            residual += float(space.outside(rows, center).sum())
            largest += float(linear_logits(rows, layer).amax(1).double().sum()) if flipped else 0.0
        scale = torch.tensor(largest / residual, dtype=torch.float64)
        return {"origin": center, "scale": scale, **space._asdict(), **layer}

    def prepare(self, state: State) -> Any:
        """Restore the subspace."""
        return {**state, "space": Subspace.of(state)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the virtual logit plus the free energy of the logits ``[B]``."""
        rows = self.vectors(block)
        residual = fitted["space"].outside(rows, fitted["origin"])
        return fitted["scale"] * residual - logsumexp(linear_logits(rows, fitted))
