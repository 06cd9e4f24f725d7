"""Diagnosis of an alarm: what has changed, and which rows, classes and neighbours show it."""

from __future__ import annotations

__all__ = ["FEWEST", "KINDS", "Diagnosis", "Window", "diagnose"]

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from featood.decisions import changed_features, class_p_values
from featood.numerics.gaussian import squared_distances
from featood.pipeline.detectors.reference import Reference

FEWEST = 20
"""Fewest rows to compare."""
SHOWN = 10
"""Number of rows and of classes to name."""
SIGNIFICANT = 0.01
"""Largest p-value of a difference."""
MOVED = 0.25
"""Share of changed features from which all rows have moved."""
CLUSTERED = 0.4
"""Share of flagged rows that are nearest to a flagged one from which they are a cluster."""
KINDS = {
    "too early": f"fewer than {FEWEST} rows since the change",
    "harmless drift": "the classes have other shares, but within the classes the scores have not changed",
    "sensor shift": "the rows that are not flagged have moved too, as with another sensor or another source",
    "new class": "the flagged rows are close to each other, and the others have not moved",
    "outliers": "the flagged rows are not close to each other, and the others have not moved",
}
"""What a diagnosis can be, and why."""
ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "higher": lambda above: -above,
    "lower": lambda above: above,
    "wider": lambda above: -np.abs(above),
    "narrower": np.abs,
}
"""By change of the scores, a function of how far they are above the median that is smallest where it shows most."""


class Window(NamedTuple):
    """The last W rows of a stream, the oldest first."""

    ids: Sequence[str]
    """``[W]``."""
    scores: np.ndarray
    """``[W]``."""
    p_values: np.ndarray
    """``[W]``, ranked among the calibration rows and all rows before."""
    out: np.ndarray
    """``[W]``, whether the score is above the threshold."""
    features: np.ndarray
    """``[W, D]``; D is 0 if there are no reference rows to compare with."""
    classes: np.ndarray | None
    """Predicted classes ``[W]``; None if the network does not classify."""

    def since(self, row: int) -> Window:
        """Return the rows from a row on."""
        classes = None if self.classes is None else self.classes[row:]
        return Window(
            self.ids[row:],
            self.scores[row:],
            self.p_values[row:],
            self.out[row:],
            self.features[row:],
            classes,
        )

    def followed_by(self, other: Window) -> Window:
        """Return the rows of both; there are no classes unless both have them."""
        classes = None
        if self.classes is not None and other.classes is not None:
            classes = np.concatenate([self.classes, other.classes])
        return Window(
            [*self.ids, *other.ids],
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.p_values, other.p_values]),
            np.concatenate([self.out, other.out]),
            np.concatenate([self.features, other.features]),
            classes,
        )


class Diagnosis(NamedTuple):
    """What has changed."""

    kind: str
    """The first of :data:`KINDS` whose rule holds."""
    rows: int
    """Number of rows since the change that were compared."""
    out: int
    """Number of flagged rows."""
    moved: float | None = None
    """Share of features that have changed, without the flagged rows (Kolmogorov and Smirnov, false discoveries)."""
    clustered: float | None = None
    """Share of flagged rows whose nearest row is flagged, among reference rows and rows since the change."""
    classes_p: float | None = None
    """P-value of other shares of the predicted classes (chi-squared test)."""
    scores_p: float | None = None
    """P-value of other scores within the predicted classes (Kolmogorov and Smirnov, on ranks within the class)."""
    unusual: Sequence[dict[str, Any]] = ()
    """The rows that show the change most: ``id``, ``score``, ``out``, ``class`` and the nearest reference row,
    ``neighbour``, with its ``neighbour_class``."""
    classes: Sequence[dict[str, Any]] = ()
    """The classes whose shares have changed most: ``class``, ``before``, ``now``, and ``out``, the flagged share."""


def diagnose(
    reference: Reference, reference_out: np.ndarray, window: Window, change: str, names: Sequence[str] = ()
) -> Diagnosis:
    """Compare rows since a change with those of the calibration set.

    The rules, of which the first that holds decides:

    - harmless drift: the predicted classes have other shares (p < 0.01), the scores within them have not changed;
    - sensor shift: without the flagged rows, a quarter of the features have changed;
    - new class: 40 % of the flagged rows are nearest to another flagged row;
    - outliers: none of these.

    Parameters
    ----------
    reference : Reference
        Rows of the calibration set.
    reference_out : array of shape [R]
        Whether the score of each is above the threshold.
    window : Window
        Rows since the change.
    change : str
        How the scores have changed; see :data:`featood.decisions.martingales.VIEWS`.
    names : sequence of str
        Names of the classes.
    """
    count, out = len(window.scores), int(window.out.sum())
    if count < FEWEST:
        return Diagnosis("too early", count, out)
    known, new = (
        torch.from_numpy(reference.scaled(rows)).double() for rows in (reference.features, window.features)
    )
    moved = None
    if count - out >= FEWEST:
        accepted = known[~reference_out].numpy(), new[~window.out].numpy()
        moved = float(changed_features(*accepted).mean())
    clustered = _clustered(known, new, window.out)
    classes_p, scores_p = _class_tests(reference, window)
    if classes_p is not None and scores_p is not None and classes_p < SIGNIFICANT <= scores_p:
        kind = "harmless drift"
    elif moved is None or moved >= MOVED:
        kind = "sensor shift"
    else:
        kind = "new class" if clustered is not None and clustered >= CLUSTERED else "outliers"
    order = np.argsort(ORDERS[change](window.scores - np.median(reference.scores)), kind="stable")[:SHOWN]
    nearest = squared_distances(new[order], known).argmin(1).tolist()
    return Diagnosis(
        kind, count, out, moved, clustered, classes_p, scores_p,
        [
            {
                "id": window.ids[row],
                "score": float(window.scores[row]),
                "out": bool(window.out[row]),
                "class": _name(window.classes, row, names),
                "neighbour": reference.ids[near] if reference.ids else str(near),
                "neighbour_class": _name(reference.classes, near, names),
            }
            for row, near in zip(order.tolist(), nearest, strict=True)
        ],
        _class_table(reference, window, names),
    )  # fmt: skip


def _clustered(known: torch.Tensor, new: torch.Tensor, out: np.ndarray) -> float | None:
    if out.sum() < 2:
        return None
    flagged = new[out]
    distances = squared_distances(flagged, torch.cat([flagged, new[~out], known]))
    distances.fill_diagonal_(torch.inf)
    return float((distances.argmin(1) < len(flagged)).double().mean())


def _class_tests(reference: Reference, window: Window) -> tuple[float | None, float | None]:
    if reference.classes is None or window.classes is None:
        return None, None
    classes = np.concatenate([reference.classes, window.classes])
    scores = np.concatenate([reference.scores, window.scores])
    before, now = _counts(reference.classes, window.classes)
    shares = stats.chi2_contingency([before, now]).pvalue if len(before) > 1 else 1.0
    ranks = class_p_values(scores, classes, scores, classes)
    split = len(reference.classes)
    return float(shares), float(stats.ks_2samp(ranks[:split], ranks[split:], method="asymp").pvalue)


def _counts(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return the numbers of rows ``[2, K]`` of the classes that occur."""
    _, ranks = np.unique(np.concatenate([before, now]), return_inverse=True)
    size = ranks.max() + 1
    return np.stack([np.bincount(part, minlength=size) for part in np.split(ranks, [len(before)])])


def _class_table(reference: Reference, window: Window, names: Sequence[str]) -> list[dict[str, Any]]:
    if reference.classes is None or window.classes is None:
        return []
    present = np.unique(np.concatenate([reference.classes, window.classes]))
    before, now = _counts(reference.classes, window.classes)
    before, now = before / before.sum(), now / now.sum()
    order = np.argsort(-np.abs(now - before), kind="stable")[:SHOWN]
    return [
        {
            "class": _name(present, row, names),
            "before": float(before[row]),
            "now": float(now[row]),
            "out": float(window.out[window.classes == present[row]].mean()) if now[row] else None,
        }
        for row in order.tolist()
    ]


def _name(classes: np.ndarray | None, row: int, names: Sequence[str]) -> str:
    if classes is None:
        return ""
    number = int(classes[row])
    return names[number] if number < len(names) else str(number)
