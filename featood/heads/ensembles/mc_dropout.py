"""Monte Carlo dropout."""

from __future__ import annotations

__all__ = ["MCDropout"]

from featood.heads.ensembles._draws_head import MEASURES, DrawsHead
from featood.heads.registry import register
from featood.options import option


@register(
    "mc-dropout",
    title="Monte Carlo dropout",
    paper="Gal and Ghahramani, Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning, "
    "ICML",
    year=2016,
    url="https://arxiv.org/abs/1506.02142",
    needs=("features", "logits"),
    learns=False,
)
class MCDropout(DrawsHead):
    """Score the disagreement of several passes with dropout, or the uncertainty of their mean.

    The passes are computed at extraction (``featood extract --mc-dropout 10``). The head ``dropout-mlp`` does not need
    them: it trains a network with dropout on the features.
    """

    feature: str = option("mc.logits", "column with the logits of the passes")
    which: str = option(
        "variance",
        "variance of the probabilities, entropy of their mean, its epistemic part, or the negated largest mean",
        choices=tuple(MEASURES),
    )
