"""Fisher's combination of p-values."""

from __future__ import annotations

__all__ = ["Fisher"]

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.compositions._composition import Composition
from featood.heads.compositions._p_values import p_values
from featood.heads.registry import register


@register(
    "fisher",
    title="Fisher's combination of several heads' p-values",
    paper="Haroush et al., A Statistical Framework for Efficient Out of Distribution Detection in Deep Neural "
    "Networks, ICLR",
    year=2022,
    url="https://arxiv.org/abs/2102.12967",
    needs=("features", "logits", "labels"),
)
class Fisher(Composition):
    """Score ``-2 sum_k log p_k``, p_k being the share of training rows that member k scores higher than the row.

    Unlike in an average of ranks, one confident member outweighs several uncertain ones. If the members were
    independent and scored training rows like new rows, the statistic would follow a chi-squared distribution with 2 K
    degrees of freedom; as neither holds, use it as a score and choose its threshold on held-out rows. The p-values are
    computed on a fixed sample of the training rows. A member that stores its training rows (a nearest-neighbour head)
    scores them lower than new rows.
    """

    def learn_scores(self, scores: Tensor) -> State:
        """Return the sorted scores of each member."""
        return {"reference": scores.T.sort(1).values.contiguous()}

    def combine(self, scores: Tensor, calibration: State) -> Tensor:
        """Return Fisher's statistic ``[B]``."""
        return -2 * p_values(calibration["reference"], scores).log().sum(1)
