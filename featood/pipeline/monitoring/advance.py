"""The step of a monitor: from a state and the next rows to a new state and a report."""

from __future__ import annotations

__all__ = ["PARTS", "WINDOW", "advance", "diagnosis_of", "identity", "initial_state"]

import dataclasses
import hashlib
import math

import numpy as np
from scipy import stats

from featood.decisions import (
    Capital,
    bet,
    change_start,
    changed_features,
    mmd,
    online_p_values,
    running_interval,
)
from featood.decisions.checks import check_rate
from featood.errors import UsageError
from featood.metrics import binomial_interval
from featood.pipeline.detectors import Detector
from featood.pipeline.monitoring.diagnosis import FEWEST, Diagnosis, Window, diagnose
from featood.pipeline.monitoring.reports import FIGURES, Report
from featood.pipeline.monitoring.state import Alarm, State
from featood.sealed import digest

PARTS = {"higher": 0.7, "lower": 0.1, "wider": 0.1, "narrower": 0.1}
"""Parts of the capital that are bet on each change of the scores."""
WINDOW = 500
"""Number of rows that are kept for a diagnosis."""
HISTORY = 1000
"""Number of batches whose figures are kept."""


def initial_state(detector: Detector, false_alarm: float, seed: int) -> State:
    """Return the state before the first row.

    Raises
    ------
    UsageError
        If the probability or the seed is impossible.
    """
    check_rate(false_alarm, "the probability of a false alarm")
    if seed < 0:
        raise UsageError(f"a seed must be at least 0, not {seed}")
    reference = detector.reference
    width = 0 if reference is None else reference.features.shape[1]
    none = np.zeros(0)
    classes = None if reference is None or reference.classes is None else np.zeros(0, np.int64)
    window = Window((), none, none, np.zeros(0, bool), np.zeros((0, width), np.float32), classes)
    return State(
        identity(detector), false_alarm, seed, np.sort(detector.calibration.scores), Capital.initial(PARTS), window,
        np.zeros((0, len(FIGURES))),
    )  # fmt: skip


def identity(detector: Detector) -> str:
    """Return a digest of all that the state of a monitor depends on."""
    return digest(
        {
            "head": detector.head.name,
            "network": detector.network.origin.backbone_fingerprint,
            "scores": hashlib.sha256(np.ascontiguousarray(detector.calibration.scores).tobytes()).hexdigest(),
            "thresholds": detector.calibration.thresholds.tolist(),
            "reference": None if detector.reference is None else list(detector.reference.features.shape),
        }
    )


def advance(state: State, detector: Detector, rows: Window, unread: int) -> tuple[State, Report]:
    """Take the next rows, whose p-values and decisions are still to be made, and return the new state and a report."""
    generator = np.random.default_rng([state.seed, state.batches])
    p, known = online_p_values(state.known, rows.scores, generator)
    capital, log_capital = bet(state.capital, p)
    out = np.zeros(0, bool)
    if len(p):
        out = detector.calibration.decide(rows.scores, rows.classes).out
    window, so_far = state.window, np.concatenate([state.window.p_values, p])
    if len(p):
        window = window.followed_by(rows._replace(p_values=p, out=out))
        window = window.since(max(len(window.ids) - WINDOW, 0))
    alarm = state.alarm
    reached = np.flatnonzero(log_capital >= -math.log(state.false_alarm))
    if alarm is None and len(reached):
        row = int(reached[0])
        known_before = len(state.window.p_values)
        begun = change_start(so_far[: known_before + row + 1], [capital.winner])
        alarm = Alarm(state.rows + row, rows.ids[row], capital.winner, state.rows - known_before + begun)
    out_now, out_all = int(out.sum()), state.out + int(out.sum())
    here = binomial_interval(out_now, len(p)) if len(p) else None
    everywhere = running_interval(out_all, capital.rows) if capital.rows else None
    report = Report(
        state.batches + 1, len(p), unread, out_now, here and here.low, here and here.high,
        capital.rows, out_all, everywhere and everywhere.low, everywhere and everywhere.high,
        float(log_capital.max()) if len(p) else capital.log, *_tests(detector, rows, generator), alarm,
        diagnosis_of(detector, window, capital.rows, alarm),
    )  # fmt: skip
    figures = [np.nan if (value := getattr(report, name)) is None else float(value) for name in FIGURES]
    after = dataclasses.replace(
        state, known=known, capital=capital, window=window, history=np.vstack([state.history, figures])[-HISTORY:],
        batches=state.batches + 1, unread=state.unread + unread, out=out_all, alarm=alarm,
    )  # fmt: skip
    return after, report


def _tests(
    detector: Detector, rows: Window, generator: np.random.Generator
) -> tuple[float | None, float | None, float | None, float | None]:
    """Return the figures of the tests of one batch; see :class:`Report`."""
    if len(rows.scores) < FEWEST:
        return None, None, None, None
    scores_p = float(stats.ks_2samp(detector.calibration.scores, rows.scores, method="asymp").pvalue)
    reference = detector.reference
    if reference is None:
        return scores_p, None, None, None
    last = rows.features[-len(reference.features) :]  # the kernel has the square of the number of rows
    found = mmd(reference.scaled(reference.features), reference.scaled(last), generator)
    return (
        scores_p,
        float(changed_features(reference.features, rows.features).mean()),
        found.value,
        found.p_value,
    )


def diagnosis_of(detector: Detector, window: Window, rows: int, alarm: Alarm | None) -> Diagnosis | None:
    """Return what has changed since an alarm, of which the window has the last of all rows; None without an alarm."""
    reference = detector.reference
    if alarm is None or reference is None:
        return None
    first = rows - len(window.scores)
    out = detector.calibration.decide(reference.scores, reference.classes).out
    return diagnose(
        reference, out, window.since(max(alarm.since - first, 0)), alarm.change, detector.network.classes
    )
