"""Negative labels: image embeddings against those of class names and of words that are far from them."""

from __future__ import annotations

__all__ = ["NegLabel"]

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.numerics.negative_labels import mine_negatives
from featood.numerics.spaces import unit
from featood.options import option

ROWS = 256
"""Number of rows compared with the negative labels at a time."""


@register(
    "neglabel",
    title="Negative labels (NegLabel)",
    paper="Jiang et al., Negative Label Guided OOD Detection with Pretrained Vision-Language Models, ICLR",
    year=2024,
    url="https://arxiv.org/abs/2403.20078",
    needs=("features", "labels", "classifier", "outliers"),
)
class NegLabel(RawFeatures, FeatureHead):
    """Score the probability that an image embedding belongs to a negative label instead of a class name.

    Text embeddings of the classes are the rows of the classifier's weight, as for `mcm`. The outliers to learn from are
    text embeddings of many words, such as the nouns of a dictionary, of which the `share` least similar to the classes
    become negative labels (NegMining): ``featood fit neglabel --outliers words.safetensors``, see ``featood
    embed-texts``. Of several files, or of outliers with several negative labels, the share of each is chosen, as the
    authors do for nouns and adjectives. The negative labels are divided at random into groups; a softmax of the cosines
    divided by T is taken over the classes and each group, and the score is the mean over the groups of the probability
    of the negative labels. Images are not used in the fit.
    """

    temperature: float = option(0.01, "temperature T of the softmax", low=1e-6)
    share: float = option(0.15, "share of the words that become negative labels", low=0, high=1)
    quantile: float = option(
        0.95, "a word's similarity is this quantile of its cosines with the classes", low=0, high=1
    )
    most: float = option(
        1.0, "words with a larger cosine with a class come last (1: no limit)", low=-1, high=1
    )
    groups: int = option(100, "groups of negative labels, of equal size", low=1)
    seed: int = option(0, "seed of the division into groups", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Choose the negative labels and divide them into groups.

        Raises
        ------
        DataError
            If there are no outliers, or only outliers.
        """
        words, numbers, images = [], [], 0
        for block in train.blocks():
            labels = torch.as_tensor(block.labels)
            unknown = labels < 0
            words.append(self.vectors(block)[unknown])
            numbers.append(labels[unknown])
            images += int((~unknown).sum())
        every, pool = torch.cat(words), torch.cat(numbers)
        if not (len(every) and images):
            raise DataError(
                f"{self.name}: {train.source.name} has {images} images and {len(every)} words; name a file with "
                "embeddings of words that may become negative labels by --outliers FILE"
            )
        weight = classifier_state(train, self.feature)["weight"]
        pools = [every[pool == number] for number in pool.unique().flip(0)]
        return {"weight": weight, **self.choose(pools, weight)}

    def choose(self, pools: Sequence[Tensor], weight: Tensor) -> State:
        """Return the negative labels ``[G, S, D]``, from words ``[M, D]`` of each file and classes ``[C, D]``."""
        chosen = self.mined(pools, weight)
        words = torch.cat([words[rows] for words, rows in zip(pools, chosen, strict=True)])
        return {"negatives": words[self.grouped(len(words)).to(words.device)].float()}

    def mined(self, pools: Sequence[Tensor], weight: Tensor) -> list[Tensor]:
        """Return the numbers of the words of each file that become negative labels."""
        return [mine_negatives(words, weight, self.share, self.quantile, self.most) for words in pools]

    def prepare(self, state: State) -> Any:
        """Return unit embeddings of the classes ``[C, D]`` and of the groups of negative labels ``[G, S, D]``."""
        negatives = state["negatives"].double()
        return unit(state["weight"].double()), unit(negatives.flatten(0, 1)).view_as(negatives)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the mean probability of the negative labels ``[B]``."""
        return by_chunks(partial(self._scores, *fitted), ROWS, self.vectors(block))

    def grouped(self, count: int) -> Tensor:
        """Divide the numbers of negative labels at random into groups ``[G, S]``."""
        size, left = divmod(count, min(self.groups, count))
        if count < self.groups:
            warnings.warn(
                f"{self.name}: each of the {count} negative labels is a group, as there are fewer than {self.groups}",
                stacklevel=2,
            )
        if left:
            warnings.warn(
                f"{self.name}: the last {left} of {count} negative labels are left out, so that the groups have equal "
                "size",
                stacklevel=2,
            )
        order = torch.randperm(count - left, generator=torch.Generator().manual_seed(self.seed))
        return order.unflatten(0, (-1, size))

    def _scores(self, names: Tensor, negatives: Tensor, rows: Tensor) -> Tensor:
        images = unit(rows.double())
        return self.probability(images @ names.T, images @ negatives.flatten(0, 1).T, negatives.shape[1])

    def probability(self, known: Tensor, unknown: Tensor, size: int) -> Tensor:
        """Return the mean probability ``[B]`` of groups of negative labels, each of `size`.

        Parameters
        ----------
        known, unknown : Tensor
            Cosines with the classes ``[B, C]`` and with the negative labels, group by group, ``[B, K]``.
        size : int
            Number of negative labels in a group.
        """
        positive = (known / self.temperature).logsumexp(1, keepdim=True)
        negative = (unknown / self.temperature).unflatten(1, (-1, size)).logsumexp(2)
        return (negative - positive).sigmoid().mean(1)
