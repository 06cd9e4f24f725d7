"""Virtual logit: the residual of the principal subspace, compared with the logits."""

from __future__ import annotations

__all__ = ["ViM"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import centred, classifier_state, linear_logits, warn_of_centring
from featood.heads.base.moments_head import class_moments
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.heads.subspaces.residual import origin, principal_space
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
        moments = class_moments(self, train)
        largest = self._largest(train, layer)
        if largest <= 0:
            warn_of_centring(self.name, "the mean largest logit", largest / moments.rows)
            layer = centred(layer)
            largest = self._largest(train, layer)
        center = origin(layer)
        space = principal_space(moments, center, self.dim)
        residual = sum(float(space.outside(self.vectors(block), center).sum()) for block in train.blocks())
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

    def _largest(self, train: SelectedRows, layer: State) -> float:
        """Sum the largest logits of all rows."""
        logits = (linear_logits(self.vectors(block), layer) for block in train.blocks())
        return sum(float(block.amax(1).double().sum()) for block in logits)
