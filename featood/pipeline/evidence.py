"""Evidence of results: digests of the sets, heads and scores, with which the results can be verified."""

from __future__ import annotations

__all__ = ["Evidence", "Scored", "make_relative"]

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from featood.cache import FeatureSet
from featood.heads.artefacts.artefact import options_as_json
from featood.heads.base.head import Head
from featood.objects import Location


class Scored(NamedTuple):
    """Summary of the scores of a set."""

    sha256: str
    """Digest of the float64 scores, little-endian, in the order of the rows."""
    octiles: list[float]
    """Quantiles of the scores at 0, 1/8, ..., 1, which show how much scores with another digest differ."""

    @classmethod
    def of(cls, scores: np.ndarray) -> Scored:
        """Summarise scores ``[N]``."""
        values = np.ascontiguousarray(scores, dtype="<f8")
        octiles = np.quantile(values, np.linspace(0, 1, 9), method="inverted_cdf")
        return cls(hashlib.sha256(values.tobytes()).hexdigest(), octiles.tolist())


def ranks_digest(scores: Sequence[np.ndarray]) -> str:
    """Return the SHA-256 of the ranks of the scores of all sets together; equal scores have equal ranks.

    Heads with the same digest order all rows alike, so every metric that depends only on the order is the same.
    """
    ranks = np.unique(np.concatenate(scores), return_inverse=True)[1]
    return hashlib.sha256(np.ascontiguousarray(ranks, dtype="<i8").tobytes()).hexdigest()


class Evidence:
    """Collects the evidence of the sets, of the heads, and of the scores of each head on each set.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        The sets by their name in the result rows, the in-distribution set first.
    shifted : sequence of str
        Those that count as in-distribution, besides the first.
    force : bool
        Whether features of other backbones, and sets used in fitting or tuning, were accepted.
    """

    def __init__(self, sets: Mapping[str, FeatureSet], shifted: Sequence[str], force: bool) -> None:
        self._sets = {
            name: {
                "key": features.name,
                "rows": len(features),
                "fingerprint": features.fingerprint,
                "content_sha256": features.content,
            }
            for name, features in sets.items()
        }
        self._heads: dict[str, Any] = {}
        self._shifted, self._force = list(shifted), force

    def add(self, label: str, head: Head, scores: Mapping[str, np.ndarray]) -> None:
        """Add a head and its scores on each set."""
        saved = head.saved
        self._heads[label] = {
            "head": head.name,
            "options": options_as_json(head),
            "fitted": head.learns,
            "artefact": saved and saved.folder.resolve().as_posix(),
            "tensors_sha256": saved and saved.tensors_sha256,
            "record_sha256": saved and saved.record_sha256,
            "ranks_sha256": ranks_digest([scores[name] for name in self._sets]),
            "scores": {name: Scored.of(values)._asdict() for name, values in scores.items()},
        }

    def as_json(self) -> dict[str, Any]:
        """Return sets and heads by name; ``artefact`` is the folder of a head, or None if it was not saved."""
        return {"force": self._force, "shifted": self._shifted, "sets": self._sets, "heads": self._heads}


def make_relative(evidence: Mapping[str, Any], root: Location) -> None:
    """Make the paths of artefacts in a cache relative to its root, so that the cache can be moved."""
    base = f"{root.resolve().as_posix()}/"
    for head in evidence["heads"].values():
        head["artefact"] = head["artefact"] and head["artefact"].removeprefix(base)
