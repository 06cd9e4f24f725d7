"""Negative labels from a conjugated semantic pool: phrases of an adjective and a superclass."""

from __future__ import annotations

__all__ = ["CSP"]

from featood.heads.distances.neglabel import NegLabel
from featood.heads.registry import register
from featood.options import option


@register(
    "csp",
    title="Conjugated semantic pool (CSP)",
    paper="Chen et al., Conjugated Semantic Pool Improves OOD Detection with Pre-trained Vision-Language Models, "
    "NeurIPS",
    year=2024,
    url="https://arxiv.org/abs/2410.08611",
    needs=("features", "labels", "classifier", "outliers"),
)
class CSP(NegLabel):
    """Score as `neglabel`, with words of a conjugated semantic pool, none of which names a class.

    The pool has, besides nouns, phrases of an adjective and a superclass such as "white creature" or "narrow area",
    which are centres of many unknown classes (``featood embed-texts --phrase "{} creature"``). Words whose cosine with
    a class exceeds `most` come last. Embeddings are means over several prompts.
    """

    most: float = option(0.95, "words with a larger cosine with a class come last", low=-1, high=1)
