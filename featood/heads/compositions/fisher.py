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
    """Score ``-2 sum_k log p_k``, p_k the share of training rows that member k scores higher than the row.

    One member that is certain outweighs several that are not, other than in an average of ranks. Were the members
    independent, and the training rows like new ones, it would follow a chi-squared distribution with 2 K degrees
    of freedom; as neither holds, read it as a score and set its threshold on rows held out. The p-values come
    from a fixed sample of the training rows. A member that remembers these (a nearest-neighbour head) scores them
    lower than new ones.
    """

    def calibrate(self, scores: Tensor) -> State:
        """Return the sorted scores of each member."""
        return {"reference": scores.T.sort(1).values.contiguous()}

    def combine(self, scores: Tensor, calibration: State) -> Tensor:
        """Return Fisher's statistic ``[B]``."""
        return -2 * p_values(calibration["reference"], scores).log().sum(1)
