"""Figures of the scores of one head, and of calibration."""

from __future__ import annotations

__all__ = [
    "det_curves",
    "precision_recall_curves",
    "reliability_diagram",
    "risk_coverage_curve",
    "robust_range",
    "roc_curves",
    "score_histogram",
]

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from featood.decisions import risk_coverage
from featood.metrics import roc_curve
from featood.metrics.counts import checked_scores, count_scores
from featood.report.plots.style import COLOURS, INK, line_styles, new_figure, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 60


def score_histogram(id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike], id_name: str = "ID") -> Figure:
    """Draw histograms of the scores of the ID set (filled) and each OOD set (lines), in percent of the set's rows.

    The axis covers the central 99 % of every set, but at most twice the width of the ID scores on either side of
    them; the outermost bins contain all values beyond. A dotted line marks the threshold that accepts 95 % of ID.

    Parameters
    ----------
    id_scores : array of shape [N]
        Higher = more out-of-distribution; infinite values are counted in the outermost bins.
    ood_scores : dict of arrays
        Scores by the name of their set.
    id_name : str
        Name of the ID set in the legend.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If a set is empty or contains NaN.
    """
    id_scores = checked_scores(id_scores, id_name)
    sets = {name: checked_scores(values, name) for name, values in ood_scores.items()}
    edges = np.linspace(*robust_range(id_scores, sets.values()), _BINS + 1)

    def shares(values: np.ndarray) -> np.ndarray:
        return 100 * np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)

    def draw(axes: Axes) -> None:
        axes.stairs(shares(id_scores), edges, fill=True, color=INK, alpha=0.3, label=short_label(id_name))
        for (name, values), style in zip(sets.items(), line_styles(), strict=False):
            axes.stairs(shares(values), edges, label=short_label(name), **style)
        accepted = np.quantile(id_scores, 0.95, method="inverted_cdf")
        axes.axvline(np.clip(accepted, edges[0], edges[-1]), color=INK, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="score (higher = more OOD)", ylabel="rows of the set (%)", xlim=edges[[0, -1]])

    return new_figure(draw, len(sets) + 1)


def roc_curves(id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike]) -> Figure:
    """Draw one ROC curve per OOD set: share of OOD rows flagged against share of ID rows flagged.

    Parameters, result and errors as for `score_histogram`.
    """
    curves = {name: roc_curve(id_scores, values) for name, values in ood_scores.items()}

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="dotted")
        for (name, (fpr, tpr)), style in zip(curves.items(), line_styles(), strict=False):
            # a curve has length 2 in the L1 norm; steps of 1/200 are finer than the pixels
            kept = np.unique(np.searchsorted(fpr + tpr, np.linspace(0, 2, 401)).clip(max=len(fpr) - 1))
            axes.plot(fpr[kept], tpr[kept], label=short_label(name), **style)
        axes.set(xlabel="ID flagged", ylabel="OOD flagged", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))

    return new_figure(draw, len(curves))


def det_curves(id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike]) -> Figure:
    """Draw the detection error tradeoff of each OOD set: OOD accepted by ID flagged, on normal-deviate axes.

    Two normal distributions with equal variances give a straight line. Rates outside 0.1 % to 99.9 % are at the ends.

    Parameters, result and errors as for `score_histogram`.

    References
    ----------
    Martin et al., The DET Curve in Assessment of Detection Task Performance, Eurospeech 1997.
    """
    curves = {name: roc_curve(id_scores, values) for name, values in ood_scores.items()}
    low, high = 0.001, 0.999
    ticks = [0.001, 0.01, 0.1, 0.5, 0.9, 0.99]

    def deviates(rates: np.ndarray) -> np.ndarray:
        return norm.ppf(np.clip(rates, low, high))

    def draw(axes: Axes) -> None:
        for (name, (fpr, tpr)), style in zip(curves.items(), line_styles(), strict=False):
            axes.plot(deviates(fpr), deviates(1 - tpr), label=short_label(name), **style)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(norm.ppf(ticks), [f"{100 * tick:.4g} %" for tick in ticks])
        ends = deviates(np.array([low, high]))
        axes.set(xlabel="ID flagged", ylabel="OOD accepted", xlim=ends, ylim=ends)

    return new_figure(draw, len(curves))


def precision_recall_curves(id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike]) -> Figure:
    """Draw the precision of OOD among the flagged rows against the share of OOD flagged, for each OOD set.

    Parameters, result and errors as for `score_histogram`.
    """
    curves = {name: _precision_recall(id_scores, values) for name, values in ood_scores.items()}

    def draw(axes: Axes) -> None:
        for (name, (recall, precision)), style in zip(curves.items(), line_styles(), strict=False):
            axes.plot(recall, precision, label=short_label(name), **style)
        axes.set(xlabel="OOD flagged (recall)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))

    return new_figure(draw, len(curves))


def risk_coverage_curve(scores: ArrayLike, errors: ArrayLike) -> Figure:
    """Draw the share of errors among the accepted rows by the share of accepted rows.

    Parameters
    ----------
    scores : array of shape [N]
        Scores of ID rows, higher = more out-of-distribution; rows with the lowest are accepted first.
    errors : array of shape [N]
        Whether each row is misclassified.
    """
    curve = risk_coverage(scores, errors)

    def draw(axes: Axes) -> None:
        axes.plot(curve.coverage, curve.risk, color=COLOURS[1])
        axes.set(xlabel="ID accepted (coverage)", ylabel="errors (risk)", xlim=(-0.01, 1.01))
        axes.set_ylim(bottom=0)

    return new_figure(draw)


def reliability_diagram(confidence: ArrayLike, accuracy: ArrayLike, rows: ArrayLike) -> Figure:
    """Draw accuracy against confidence by bin; a calibrated classifier is on the diagonal.

    Parameters
    ----------
    confidence, accuracy, rows : array of shape [bins]
        As returned by `featood.metrics.reliability_curve`. The area of a dot increases with its share of the rows;
        empty bins are not drawn.

    Returns
    -------
    Figure
    """
    confidence, accuracy, rows = (np.asarray(values, np.float64) for values in (confidence, accuracy, rows))
    filled = rows > 0
    areas = 6 + 200 * rows[filled] / rows.sum()

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="dotted")
        axes.plot(confidence[filled], accuracy[filled], color=COLOURS[1])
        axes.scatter(confidence[filled], accuracy[filled], areas, color=COLOURS[1], alpha=0.6, linewidth=0)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))

    return new_figure(draw, 0)


def robust_range(id_scores: np.ndarray, others: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the range of the central 99 % of all sets, within twice the width of the ID scores; never empty."""
    finite = [values[np.isfinite(values)] for values in (id_scores, *others)]
    ranges = np.array([np.quantile(values, [0.005, 0.995]) for values in finite if len(values)])
    low, high = (ranges[:, 0].min(), ranges[:, 1].max()) if len(ranges) else (0.0, 0.0)
    if len(finite[0]) and (width := ranges[0, 1] - ranges[0, 0]) > 0:
        low, high = max(low, ranges[0, 0] - 2 * width), min(high, ranges[0, 1] + 2 * width)
    margin = 0.02 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - margin, high + margin


def _precision_recall(id_scores: ArrayLike, ood_scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision of OOD, as the threshold decreases from the largest score to below the smallest."""
    flagged = count_scores(id_scores, ood_scores).mirrored
    # mirrored, the counts of OOD are called id
    return flagged.id_below / flagged.n_id, flagged.id_below / (flagged.id_below + flagged.ood_below)
