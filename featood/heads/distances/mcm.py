"""Maximum concept matching: image embeddings against embeddings of the class names."""

from __future__ import annotations

__all__ = ["MCM"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state, last_layer
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.spaces import unit
from featood.options import option


@register(
    "mcm",
    title="Maximum concept matching",
    paper="Ming et al., Delving into Out-of-Distribution Detection with Vision-Language Representations, NeurIPS",
    year=2022,
    url="https://arxiv.org/abs/2211.13445",
    needs=("features", "classifier"),
    learns=False,
)
class MCM(RawFeatures, FeatureHead):
    """Score ``-max_c softmax(cos(z, t_c) / T)`` of an image embedding z and the text embeddings t_c of the classes.

    The text embeddings are the rows of the classifier's weight, of any length; its bias is not used
    (``featood import --classifier`` or ``featood cache add-classifier``, with a bias of zeros). OpenOOD's postprocessor
    of this name applies the softmax to plain logits, which gives the maximum softmax probability.
    """

    temperature: float = option(1.0, "softmax temperature T", low=1e-6)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the text embeddings."""
        return classifier_state(train, self.feature)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated largest matching probability ``[B]``."""
        rows = self.vectors(block).double()
        concepts = fitted or last_layer(block, self.feature, rows.device)
        cosines = unit(rows) @ unit(concepts["weight"].double()).T
        return -(cosines / self.temperature).softmax(1).amax(1)
