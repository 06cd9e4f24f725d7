"""The card of a head."""

from __future__ import annotations

__all__ = ["NEEDS", "Card", "option"]

import dataclasses

from featood.options import option

NEEDS = ("features", "logits", "labels", "classifier", "outliers")


@dataclasses.dataclass(frozen=True)
class Card:
    """Information about a head for choosing among heads."""

    name: str
    title: str
    paper: str
    """Authors, title and venue."""
    year: int
    url: str
    needs: tuple[str, ...]
    """Required inputs, out of ``features, logits, labels, classifier, outliers``; labels only for fitting."""
    learns: bool
    """Whether it must be fitted before scoring."""
    summary: str
    """First line of the docstring."""
    uses: tuple[str, ...] = ()
    """Optional inputs."""
    scores: tuple[str, ...] = ()
    """Names of its scores if it has several, the default first."""
    caution: str = ""
    """Known limitation, in a few words."""

    @property
    def takes_outliers(self) -> bool:
        """Whether it learns from outliers among the training rows, which other heads ignore."""
        return "outliers" in (*self.needs, *self.uses)
