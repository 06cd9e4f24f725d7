"""Average of the score ranks of several heads."""

from __future__ import annotations

__all__ = ["RankAverage"]

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.compositions._composition import Composition
from featood.heads.compositions._p_values import p_values
from featood.heads.registry import register


@register(
    "rank-average",
    title="Average rank of several heads",
    paper="Aggarwal, Outlier Ensembles: Position Paper, SIGKDD Explorations",
    year=2013,
    url="https://doi.org/10.1145/2481244.2481252",
    needs=("features", "logits", "labels"),
)
class RankAverage(Composition):
    """Score the mean over the members of the rank of a row's score among training scores, in (0, 1).

    Ranks are relative to a fixed sample of the training rows, so a score does not depend on the other scored rows.
    Scores above those of all training rows get the same rank. A member that stores its training rows (a
    nearest-neighbour head) scores them lower than new rows.
    """

    def learn_scores(self, scores: Tensor) -> State:
        """Return the sorted scores of each member."""
        return {"reference": scores.T.sort(1).values.contiguous()}

    def combine(self, scores: Tensor, calibration: State) -> Tensor:
        """Return the mean rank ``[B]``."""
        return 1 - p_values(calibration["reference"], scores).mean(1)
