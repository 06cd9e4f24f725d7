"""Probes: rows of a calibration set that are computed again later, to notice that encoder or head have changed."""

from __future__ import annotations

__all__ = ["PROBES", "Probes", "choose_probes"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, Mismatch

if TYPE_CHECKING:
    from featood.heads.base.head import Head

PROBES = 8
"""Number of probes, if the set has so many rows."""
SAME_HEAD = 1e-3
"""Largest difference of scores of the same features, in standard deviations of the calibration scores."""
SAME_ENCODER = 1e-2
"""Largest difference of a row of features, relative to its length. Services that compute embeddings repeat them within
about 1e-3; other weights change them by about 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Probes:
    """The first rows of a calibration set, with their scores."""

    columns: Mapping[str, np.ndarray]
    """Features ``[P, D]`` by name, and ``logits``: those that the head reads."""
    ids: Sequence[str]
    """Names of the inputs ``[P]``, or their numbers in the set."""
    scores: np.ndarray
    """``[P]``."""
    scale: float
    """Standard deviation of the scores of the calibration set."""

    def check_head(self, head: Head) -> None:
        """Score the probes again.

        Raises
        ------
        Mismatch
            If the head computes other scores of the same features.
        """
        features = {name: values for name, values in self.columns.items() if name != "logits"}
        rows = FeatureSet(features, logits=self.columns.get("logits"), name="probes")
        scores = np.asarray(head.score(rows), np.float64)
        worst = float((np.abs(scores - self.scores) / (self.scale + np.abs(self.scores))).max())
        if not worst <= SAME_HEAD:
            raise Mismatch(
                "self-test failed: the head computes other scores of the same features (relative difference "
                f"{worst:.3g})"
            )

    def check_encoder(self, again: FeatureSet) -> None:
        """Compare the probes with features of the same inputs, computed now.

        Parameters
        ----------
        again : FeatureSet
            Features of the inputs `ids`, in that order.

        Raises
        ------
        DataError
            If the set has another number of rows, or lacks a column.
        Mismatch
            If the features differ.
        """
        if len(again) != len(self.ids):
            raise DataError(
                f"{again.name} has {len(again)} rows; the probes are {len(self.ids)} inputs: {', '.join(self.ids)}"
            )
        for name, stored in self.columns.items():
            found = again.logits if name == "logits" else again.feature(name)
            if found is None or found.shape[1] != stored.shape[1]:
                raise DataError(f"{again.name} has no {stored.shape[1]} values of {name} for each row")
            apart = np.linalg.norm(np.asarray(found[:], "f8") - stored, axis=1)
            apart /= np.maximum(np.linalg.norm(stored.astype("f8"), axis=1), np.finfo("f4").tiny)
            worst = int(np.argmax(apart))
            if not apart[worst] <= SAME_ENCODER:
                raise Mismatch(
                    f"the encoder has changed: {name} of the probe {self.ids[worst]} differs by "
                    f"{100 * apart[worst]:.3g} % of its length from the stored one; fit and calibrate the head again "
                    "(or the probes are in another order than in the README of the folder)"
                )


def choose_probes(head: Head, features: FeatureSet, scores: np.ndarray, known: np.ndarray) -> Probes:
    """Return the first in-distribution rows of a set as probes.

    Parameters
    ----------
    head : Head
        The head.
    features : FeatureSet
        Its calibration set.
    scores : ndarray
        Scores of all its rows ``[N]``.
    known : ndarray
        Whether a row is in-distribution ``[N]``.
    """
    rows = np.flatnonzero(known)[:PROBES]
    last = int(rows[-1]) + 1 if len(rows) else 0
    first = features.rows(slice(0, last))  # columns on disk are read by slices
    read = head.select(first, fitting=False).source
    columns = {name: np.asarray(values)[rows] for name, values in read.features.items()}
    if read.logits is not None:
        columns["logits"] = np.asarray(read.logits)[rows]
    ids = rows if first.ids is None else np.asarray(first.ids)[rows]
    return Probes(columns, [str(name) for name in ids], scores[rows], float(scores[known].std()))
