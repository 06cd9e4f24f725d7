"""Deep ensembles."""

from __future__ import annotations

__all__ = ["DeepEnsemble"]

from featood.heads.ensembles._draws_head import DrawsHead
from featood.heads.registry import register
from featood.options import option


@register(
    "deep-ensemble",
    title="Deep ensemble",
    paper="Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, "
    "NeurIPS",
    year=2017,
    url="https://arxiv.org/abs/1612.01474",
    needs=("features", "logits"),
    learns=False,
)
class DeepEnsemble(DrawsHead):
    """Score the uncertainty of the mean prediction of several networks, or their disagreement.

    ``featood cache join`` joins the sets of the networks into one set with all their logits. The head
    ``ensemble-mlp`` needs only one network: it trains an ensemble on its features.
    """

    feature: str = option("ensemble.logits", "column with the logits of the members")
