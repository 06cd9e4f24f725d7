"""What results rest on, kept with them so that they can be computed again and held against the file."""

from __future__ import annotations

__all__ = ["Evidence", "Scored", "within"]

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.cache import FeatureSet
from featood.heads.artefacts.artefact import options_as_json
from featood.heads.base.head import Head


class Scored(NamedTuple):
    """A set's scores in short."""

    sha256: str
    """Of the float64 scores, little-endian, in the order of the rows."""
    octiles: list[float]
    """The scores at 0, 1/8, ..., 1 of their order: how far scores with another digest lie apart shows in these."""

    @classmethod
    def of(cls, scores: np.ndarray) -> Scored:
        """Summarise scores ``[N]``."""
        values = np.ascontiguousarray(scores, dtype="<f8")
        octiles = np.quantile(values, np.linspace(0, 1, 9), method="inverted_cdf")
        return cls(hashlib.sha256(values.tobytes()).hexdigest(), octiles.tolist())


class Evidence:
    """Collects what decides the rows of results: the sets, the heads, and the scores of each head on each set.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        By the name that rows use, the in-distribution set first.
    force : bool
        Whether mismatching features and sets that heads have seen were accepted.
    """

    def __init__(self, sets: Mapping[str, FeatureSet], force: bool) -> None:
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
        self._force = force

    def add(self, label: str, head: Head, scores: Mapping[str, np.ndarray]) -> None:
        """Take a head and its scores by set."""
        saved = head.saved
        self._heads[label] = {
            "head": head.name,
            "options": options_as_json(head),
            "fitted": head.learns,
            "artefact": saved and str(saved.folder.resolve()),
            "tensors_sha256": saved and saved.tensors_sha256,
            "record_sha256": saved and saved.record_sha256,
            "scores": {name: Scored.of(values)._asdict() for name, values in scores.items()},
        }

    def as_json(self) -> dict[str, Any]:
        """Return sets and heads by name; ``artefact`` is a head's folder, None where it has none."""
        return {"force": self._force, "sets": self._sets, "heads": self._heads}


def within(evidence: Mapping[str, Any], root: Path) -> None:
    """Name the artefacts that are in a cache by their place in it, so that the cache can move."""
    for head in evidence["heads"].values():
        if head["artefact"] and Path(head["artefact"]).is_relative_to(root.resolve()):
            head["artefact"] = Path(head["artefact"]).relative_to(root.resolve()).as_posix()
