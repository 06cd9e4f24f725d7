"""Negative labels: words that are far from the names of the classes, chosen by their embeddings."""

from __future__ import annotations

__all__ = ["mine_negatives"]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.numerics.spaces import unit

WORDS = 1024
"""Number of words compared with the classes at a time."""


def mine_negatives(
    words: Float[Tensor, "M D"],
    classes: Float[Tensor, "C D"],
    share: float = 0.15,
    quantile: float = 0.95,
    most: float = 1.0,
) -> Int[Tensor, "K"]:
    """Choose the words that are least similar to the classes (NegMining of Jiang et al., ICLR 2024).

    The similarity of a word is a quantile of its cosines with the classes, so that one class with a similar name does
    not decide. It is 1 for a word whose largest cosine exceeds `most` (Chen et al., NeurIPS 2024).

    Parameters
    ----------
    words, classes : Tensor
        Embeddings ``[M, D]`` and ``[C, D]``, of any length.
    share : float
        Share of the words to choose, rounded down, but at least one word.
    quantile : float
        Quantile over the classes, interpolated linearly.
    most : float
        Largest cosine with a class; 1 for no limit.

    Returns
    -------
    Tensor
        Numbers of the chosen words ``[K]``, the least similar first; equally similar ones in their order.

    Examples
    --------
    >>> classes, words = torch.eye(3)[:2], torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0.1]])
    >>> mine_negatives(words, classes, share=0.7, quantile=1.0).tolist()
    [1, 2]
    """
    names = unit(classes.double())
    similarities = []
    for part in words.split(WORDS):
        cosines = unit(part.double()) @ names.T
        similarity = cosines.quantile(quantile, dim=1)
        similarities.append(similarity.masked_fill(cosines.amax(1) > most, 1.0))
    order = torch.cat(similarities).argsort(stable=True)
    return order[: max(int(share * len(words)), 1)]
