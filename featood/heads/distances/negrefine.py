"""Negative labels, and texts that join a class name with a negative label, for images that match both."""

from __future__ import annotations

__all__ = ["NegRefine"]

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.fit import State
from featood.heads.distances.neglabel import NegLabel
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.numerics.spaces import unit
from featood.options import option

ROWS = 64
"""Number of rows compared with joined texts at a time."""


@register(
    "negrefine",
    title="Refined negative labels (NegRefine)",
    paper="Ansari et al., NegRefine: Refining Negative Label-Based Zero-Shot OOD Detection, ICCV",
    year=2025,
    url="https://arxiv.org/abs/2507.09795",
    needs=("features", "labels", "classifier", "outliers"),
)
class NegRefine(NegLabel):
    """Score as `neglabel`, plus ``a (1 - max sigmoid((cos(z, t_pn) - cos(z, t_n)) / T))``, for images that match both.

    The maximum is over the `nearest` classes p and the `nearest` negative labels n of an image embedding z, and t_pn
    embeds the text "p and n": an image with an object of a class beside something else matches it better than n alone.
    Words whose cosine with a class exceeds `most` come last, as in `csp`.

    The second half of the files of outliers has the embeddings of "CLASS and WORD" for each class and each word of the
    first half (``featood embed-texts --pairs``). With ``pairs=mean`` there are no such files, and t_pn is the mean of
    both embeddings, scaled to length 1, which is not the paper's.

    The authors also ask a language model which words are proper names or kinds of a class, and leave these out; leave
    them out of the list of words.
    """

    quantile: float = option(
        1.0, "a word's similarity is this quantile of its cosines with the classes", low=0, high=1
    )
    most: float = option(0.95, "words with a larger cosine with a class come last", low=-1, high=1)
    weight: float = option(2.0, "weight a of the joined texts", low=0)
    nearest: int = option(5, "classes, and negative labels, that are joined", low=1)
    pairs: str = option(
        "texts",
        "embeddings of joined texts: those in further files, or the mean of both",
        choices=("texts", "mean"),
    )
    testing_options: ClassVar[Mapping[str, Any]] = {"pairs": "mean"}

    def choose(self, pools: Sequence[Tensor], weight: Tensor) -> State:
        """Return the negative labels ``[G, S, D]``, and the joined texts ``[C, G * S, D]`` unless they are means.

        Raises
        ------
        DataError
            If the joined texts are not those of all classes and words.
        """
        if self.pairs == "mean":
            return super().choose(pools, weight)
        half, classes = len(pools) // 2, len(weight)
        words, texts = pools[:half], pools[half:]
        if [len(one) for one in texts] != [classes * len(one) for one in words] or not words:
            raise DataError(
                f"{self.name}: the files of outliers have {', '.join(str(len(one)) for one in pools)} rows; name files "
                f"of words and then, in the same order, files of {classes} times as many joined texts (featood "
                "embed-texts --pairs), or choose --pairs mean"
            )
        chosen = self.mined(words, weight)
        order = self.grouped(sum(map(len, chosen))).to(weight.device)
        joined = [one.unflatten(0, (classes, -1))[:, rows] for one, rows in zip(texts, chosen, strict=True)]
        negatives = torch.cat([one[rows] for one, rows in zip(words, chosen, strict=True)])
        return {
            "negatives": negatives[order].float(),
            "joined": torch.cat(joined, dim=1)[:, order.flatten()].float(),
        }

    def prepare(self, state: State) -> Any:
        """Return unit embeddings of classes and of the groups of negative labels, and those of joined texts, if any."""
        return *super().prepare(state), state.get("joined")

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the sum of both scores ``[B]``."""
        return by_chunks(partial(self._refined, *fitted), ROWS, self.vectors(block))

    def _refined(self, names: Tensor, negatives: Tensor, joined: Tensor | None, rows: Tensor) -> Tensor:
        images, words = unit(rows.double()), negatives.flatten(0, 1)
        of_names, of_words = images @ names.T, images @ words.T
        known, classes = of_names.topk(min(self.nearest, len(names)))
        unknown, labels = of_words.topk(min(self.nearest, len(words)))
        if joined is None:
            lengths = (2 + 2 * names[classes] @ words[labels].mT).clamp_min(1e-12).sqrt()
            cosines = (known[:, :, None] + unknown[:, None]) / lengths
        else:
            texts = joined[classes[:, :, None], labels[:, None]].double()
            directions = unit(texts.flatten(0, 2)).view_as(texts)
            cosines = torch.einsum("bpnd,bd->bpn", directions, images)
        excess = ((unknown[:, None] - cosines) / self.temperature).sigmoid().amin((1, 2))
        return self.probability(of_names, of_words, negatives.shape[1]) + self.weight * excess
