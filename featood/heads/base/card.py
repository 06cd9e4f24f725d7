"""What a user must know of a head before choosing it."""

from __future__ import annotations

__all__ = ["NEEDS", "Card"]

import dataclasses

NEEDS = ("features", "logits", "labels", "classifier", "outliers")


@dataclasses.dataclass(frozen=True)
class Card:
    """What a user must know of a head before choosing it."""

    name: str
    title: str
    paper: str
    """Authors, title and venue."""
    year: int
    url: str
    needs: tuple[str, ...]
    """What it reads, out of ``features, logits, labels, classifier, outliers``; labels only to fit."""
    learns: bool
    """Whether it must be fitted; the others score at once."""
    summary: str
    """First line of the docstring."""
    uses: tuple[str, ...] = ()
    """What it can read as well, but does without."""
    scores: tuple[str, ...] = ()
    """Names of its scores where it has several, the default first."""
    caution: str = ""
    """Where it is known not to work, in a few words."""

    @property
    def takes_outliers(self) -> bool:
        """Whether it learns from outliers among the training rows, which other heads leave out."""
        return "outliers" in (*self.needs, *self.uses)
