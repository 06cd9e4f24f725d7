"""Global and local maximum concept matching: embeddings of an image and of its positions against class names."""

from __future__ import annotations

__all__ = ["GLMCM"]

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state, last_layer
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.numerics.spaces import unit
from featood.options import option

ROWS = 64
"""Number of rows whose positions are compared with the classes at a time."""


@register(
    "gl-mcm",
    title="Global and local maximum concept matching (GL-MCM)",
    paper="Miyai et al., GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution "
    "Detection, IJCV",
    year=2025,
    url="https://arxiv.org/abs/2304.04521",
    needs=("features", "classifier"),
    learns=False,
)
class GLMCM(RawFeatures, FeatureHead):
    """Score `mcm` of the image embedding plus ``-a max_p max_c softmax(cos(z_p, t_c) / T)`` of its positions p.

    The text embeddings t_c are the rows of the classifier's weight. The embeddings z_p of the positions are a column of
    ``D * P`` numbers, the positions of each dimension together, as in the column ``map``. The authors take the values
    of CLIP's last attention layer, projected like the image embedding; `featood extract` does not compute them, so
    import both columns with the classifier.
    """

    local: str = option("map", "column with the embeddings of the positions")
    weight: float = option(1.0, "weight a of the local score", low=0)
    temperature: float = option(1.0, "softmax temperature T", low=1e-6)
    testing_options: ClassVar[Mapping[str, Any]] = {"local": "std"}

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns of the image and of its positions."""
        return [*super().columns(source), self.local]

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the text embeddings."""
        return classifier_state(train, self.feature)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated largest matching probabilities, summed ``[B]``.

        Raises
        ------
        UsageError
            If the local column does not consist of embeddings as wide as those of the classes.
        """
        rows, local = self.vectors(block).double(), block.feature(self.local)[:]
        layer = fitted or last_layer(block, self.feature, rows.device)
        names = unit(layer["weight"].double())
        if local.shape[1] % names.shape[1]:
            raise UsageError(
                f"{self.name}: column '{self.local}' has {local.shape[1]} numbers per row, which are not embeddings of "
                f"{names.shape[1]} dimensions; name the column of the positions with --local"
            )
        nearest = by_chunks(partial(self._local, names), ROWS, local)
        return -self._matching(unit(rows), names) - self.weight * nearest

    def _local(self, names: Tensor, local: Tensor) -> Tensor:
        positions = local.double().unflatten(1, (names.shape[1], -1)).mT
        matching = self._matching(unit(positions.flatten(0, 1)), names)
        return matching.view(positions.shape[:2]).amax(1)

    def _matching(self, rows: Tensor, names: Tensor) -> Tensor:
        return (rows @ names.T / self.temperature).softmax(1).amax(1)
