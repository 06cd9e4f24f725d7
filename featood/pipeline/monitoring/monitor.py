"""A monitor: a detector that watches a stream of images, batch by batch."""

from __future__ import annotations

__all__ = ["Monitor"]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.data import ImageSet
from featood.decisions import running_interval
from featood.errors import Mismatch
from featood.files import make_folder
from featood.pipeline.detectors import Detector
from featood.pipeline.detectors.detector import ScoredImages
from featood.pipeline.monitoring.advance import advance, diagnosis_of, identity, initial_state
from featood.pipeline.monitoring.diagnosis import KINDS, Diagnosis, Window
from featood.pipeline.monitoring.reports import FIGURES, Report
from featood.pipeline.monitoring.state import State, load_state, names_digest, save_state


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
            self.state = initial_state(detector, 0.01 if false_alarm is None else false_alarm, seed or 0)
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
        return diagnosis_of(self.detector, self.state.window, self.state.rows, self.state.alarm)

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
        if self.state.detector != identity(self.detector):
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
