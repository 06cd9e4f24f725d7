"""A monitor: a detector that watches a stream of images, batch by batch."""

from __future__ import annotations

__all__ = ["PARTS", "Monitor", "Report"]

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from featood.data import ImageSet
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
from featood.errors import Mismatch, UsageError
from featood.files import digest, make_folder
from featood.metrics import binomial_interval
from featood.pipeline.detectors import Detector
from featood.pipeline.detectors.detector import ScoredImages
from featood.pipeline.monitoring.diagnosis import FEWEST, KINDS, Diagnosis, Window, diagnose
from featood.pipeline.monitoring.state import Alarm, State, load_state, names_digest, save_state

PARTS = {"higher": 0.7, "lower": 0.1, "wider": 0.1, "narrower": 0.1}
"""Parts of the capital that are bet on each change of the scores."""
WINDOW = 500
"""Number of rows that are kept for a diagnosis."""
HISTORY = 1000
"""Number of batches whose figures are kept."""


class Report(NamedTuple):
    """What a batch has shown; None where there are too few rows, or no reference rows."""

    batch: int
    """Number of the batch, from 1."""
    rows: int
    """Images that could be read."""
    unread: int
    """Images that could not."""
    out: int
    """Rows above the threshold."""
    low: float | None
    """Lower end of the 95 % interval of their share, for this batch alone (Clopper and Pearson)."""
    high: float | None
    """Its upper end."""
    all_rows: int
    """Rows of all batches."""
    all_out: int
    """Those above the threshold."""
    all_low: float | None
    """Lower end of the 95 % interval of their share, which may be looked at after each batch."""
    all_high: float | None
    """Its upper end."""
    log_capital: float
    """Logarithm of the highest capital of the bets in this batch."""
    scores_p: float | None
    """P-value of a test of Kolmogorov and Smirnov that the scores are those of the calibration set."""
    moved: float | None
    """Share of features that differ from those of the reference rows."""
    mmd: float | None
    """Maximum mean discrepancy between the features and those of the reference rows, squared; of the last rows of the
    batch, at most as many as there are reference rows."""
    mmd_p: float | None
    """Its p-value. As of all tests of one batch, some are small among many batches."""
    alarm: Alarm | None = None
    """The alarm, in this batch or an earlier one."""
    diagnosis: Diagnosis | None = None
    """What has changed since the change that the alarm noticed."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as written by ``featood monitor --json``."""
        nested = {"alarm": self.alarm, "diagnosis": self.diagnosis}
        return {**self._asdict(), **{name: part and part._asdict() for name, part in nested.items()}}


FIGURES = Report._fields[: Report._fields.index("alarm")]
"""The figures that the history has of each batch."""


class Monitor:
    """Watches a stream of images for changes.

    Each row gets a p-value, ranked among the calibration rows and all rows before it, and a capital of 1 is bet against
    these p-values (:func:`~featood.decisions.bet`). The alarm is raised when the capital reaches 1 over the probability
    of a false alarm: while calibration rows and stream are exchangeable, that is the probability that it is ever
    raised. 70 % of the capital are bet on higher scores, 10 % each on lower, wider and narrower ones.

    Parameters
    ----------
    detector : Detector
        The detector.
    state : path, optional
        Folder of the state, which is written after each batch. If it has a state, the monitor continues from it.
    false_alarm : float, optional
        Probability of a false alarm on a stream of any length, in (0, 1); 0.01 by default.
    seed : int, optional
        Seed of the random numbers that break ties between scores and divide rows for tests; 0 by default.

    Raises
    ------
    Mismatch
        If the state is that of another detector, or was begun with another probability or seed.
    CacheCorrupt
        If the state is damaged.

    Example
    -------
    ::

        monitor = featood.Monitor(featood.Detector.load("knn-detector"), state="camera-1")
        for images in batches:
            if monitor.feed(images).alarm:
                break
    """

    def __init__(
        self,
        detector: Detector,
        state: str | Path | None = None,
        false_alarm: float | None = None,
        seed: int | None = None,
    ) -> None:
        self.detector = detector
        self._folder = None if state is None else Path(state)
        self._written = ""
        found = None if self._folder is None else load_state(self._folder)
        if found is None:
            self.state = _initial(detector, 0.01 if false_alarm is None else false_alarm, seed or 0)
        else:
            self.state, self._written = found
            self._check(false_alarm, seed)

    def feed(self, images: ImageSet | Sequence[Any]) -> Report:
        """Take the next images, and return what they show; images that cannot be read are counted, and have no row.

        Parameters
        ----------
        images : ImageSet or sequence
            A set of images, or paths, PIL images, and 8-bit arrays or tensors.

        Raises
        ------
        Mismatch
            If another process has changed the state.
        """
        parts = list(self.detector.score(images))
        unread = sum(len(part.errors) for part in parts)
        state, report = advance(self.state, self.detector, _rows(self.detector, parts), unread)
        seen = names_digest(state.stream_digest, [name for part in parts for name in part.ids])
        state = dataclasses.replace(state, stream_rows=state.stream_rows + len(images), stream_digest=seen)
        self._save(state)
        self.state = state
        return report

    def diagnose(self) -> Diagnosis | None:
        """Return what has changed since the change that the alarm noticed; None without one."""
        return _diagnosis(self.detector, self.state.window, self.state.rows, self.state.alarm)

    def summary(self) -> dict[str, Any]:
        """Return all that the monitor knows of its stream, for a page."""
        state, calibration = self.state, self.detector.calibration.record
        share = running_interval(state.out, state.rows) if state.rows else None
        diagnosis = self.diagnose()
        return {
            "head": self.detector.head.name, "set": calibration["set"], "calibration_rows": calibration["rows"],
            "alarm_rate": calibration["alarm_rate"], "false_alarm": state.false_alarm, "batches": state.batches,
            "rows": state.rows, "unread": state.unread, "out": state.out,
            "low": share and share.low, "high": share and share.high,
            "history": [
                {name: None if np.isnan(value) else value for name, value in zip(FIGURES, row, strict=True)}
                for row in state.history.tolist()
            ],
            "alarm": state.alarm and state.alarm._asdict(), "diagnosis": diagnosis and diagnosis._asdict(),
            "why": KINDS[diagnosis.kind] if diagnosis else "",
        }  # fmt: skip

    def begin_stream(self) -> None:
        """Begin another stream: the names of its images are not those of images already seen."""
        self.state = dataclasses.replace(self.state, stream_rows=0, stream_digest="")

    def _save(self, state: State) -> None:
        if self._folder is None:
            return
        make_folder(self._folder)
        found = load_state(self._folder)
        if (found[1] if found else "") != self._written:
            raise Mismatch(
                f"another process has changed the state in {self._folder}; use one state for each stream"
            )
        self._written = save_state(state, self._folder)

    def _check(self, false_alarm: float | None, seed: int | None) -> None:
        if self.state.detector != _identity(self.detector):
            raise Mismatch(f"the state in {self._folder} is that of another detector; choose another folder")
        for name, given in (("false_alarm", false_alarm), ("seed", seed)):
            if given is not None and given != (begun := getattr(self.state, name)):
                raise Mismatch(
                    f"the state in {self._folder} was begun with a {name.replace('_', ' ')} of {begun:g}, not "
                    f"{given:g}; choose another folder, or leave it out"
                )


def _rows(detector: Detector, parts: Sequence[ScoredImages]) -> Window:
    """Return the rows of a batch, without p-values and decisions."""
    column = detector.reference and detector.reference.column
    features, classes = [], []
    for part in parts:
        if part.features is not None and column:
            features.append(np.asarray(part.features.feature(column), np.float32))
        if part.classes is not None:
            classes.append(part.classes)
    ids = [name for part in parts for name in part.read]
    return Window(
        ids,
        np.concatenate([part.scores for part in parts]) if parts else np.zeros(0),
        np.zeros(0),
        np.zeros(0, bool),
        np.concatenate(features) if features else np.zeros((len(ids), 0), np.float32),
        np.concatenate(classes) if classes else None,
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
        _diagnosis(detector, window, capital.rows, alarm),
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


def _diagnosis(detector: Detector, window: Window, rows: int, alarm: Alarm | None) -> Diagnosis | None:
    reference = detector.reference
    if alarm is None or reference is None:
        return None
    first = rows - len(window.scores)
    out = detector.calibration.decide(reference.scores, reference.classes).out
    return diagnose(
        reference, out, window.since(max(alarm.since - first, 0)), alarm.change, detector.network.classes
    )


def _initial(detector: Detector, false_alarm: float, seed: int) -> State:
    check_rate(false_alarm, "the probability of a false alarm")
    if seed < 0:
        raise UsageError(f"a seed must be at least 0, not {seed}")
    reference = detector.reference
    width = 0 if reference is None else reference.features.shape[1]
    none = np.zeros(0)
    classes = None if reference is None or reference.classes is None else np.zeros(0, np.int64)
    window = Window((), none, none, np.zeros(0, bool), np.zeros((0, width), np.float32), classes)
    return State(
        _identity(detector), false_alarm, seed, np.sort(detector.calibration.scores), Capital.initial(PARTS), window,
        np.zeros((0, len(FIGURES))),
    )  # fmt: skip


def _identity(detector: Detector) -> str:
    return digest(
        {
            "head": detector.head.name,
            "network": detector.network.origin.backbone_fingerprint,
            "scores": hashlib.sha256(np.ascontiguousarray(detector.calibration.scores).tobytes()).hexdigest(),
            "thresholds": detector.calibration.thresholds.tolist(),
            "reference": None if detector.reference is None else list(detector.reference.features.shape),
        }
    )
