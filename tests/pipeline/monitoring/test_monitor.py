"""Monitors: alarm, diagnosis, state on disk."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from small_detector import small_detector, with_calibration

from featood.data import open_dataset
from featood.decisions import Capital, bet, online_p_values, running_interval
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.metrics import binomial_interval
from featood.pipeline.detectors import Detector
from featood.pipeline.detectors.files import image_sets
from featood.pipeline.monitoring import Monitor
from featood.pipeline.monitoring.advance import PARTS, WINDOW
from featood.pipeline.monitoring.state import FILE, load_state
from featood.pipeline.monitoring.stream import batches, unseen


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a detector of digits, the folder in which it was saved, and its calibration images."""
    place = tmp_path_factory.mktemp("made")
    detector, _ = small_detector(place, k=5)
    return detector, detector.save(place / "detector"), open_dataset("digits", "test")


@pytest.fixture(scope="module")
def streams(made, tmp_path_factory):
    """Return packed digits, and noise, as sets, and the folder of their files."""
    place, rng = tmp_path_factory.mktemp("streams"), np.random.default_rng(0)
    images = made[2]
    digits = np.stack([images.read(row) for row in rng.permutation(len(images))[:200]])
    noise = rng.integers(0, 256, (150, *digits.shape[1:]), np.uint8)
    np.savez(place / "digits.npz", images=digits)
    np.savez(place / "noise.npz", images=noise)
    decoding = made[0].network.decoding
    sets = {name: next(image_sets([str(place / f"{name}.npz")], decoding)) for name in ("digits", "noise")}
    return sets | {"place": place}


def test_a_report_has_the_figures_of_its_batch(made, streams):
    detector, _, _ = made
    monitor = Monitor(detector, seed=3)
    scores = np.concatenate([part.scores for part in detector.score(streams["digits"])])
    known, capital, out = np.sort(detector.calibration.scores), Capital.initial(PARTS), 0
    for number, part in enumerate(batches([streams["digits"]], 50)):
        report = monitor.feed(part)
        values = scores[50 * number : 50 * (number + 1)]
        p, known = online_p_values(known, values, np.random.default_rng([3, number]))
        capital, logs = bet(capital, p)
        flagged = int((values > detector.calibration.thresholds[0]).sum())
        out += flagged
        assert (report.batch, report.rows, report.unread, report.out) == (number + 1, 50, 0, flagged)
        assert (report.low, report.high) == binomial_interval(flagged, 50)[1:]
        assert (report.all_rows, report.all_out) == (50 * (number + 1), out)
        assert (report.all_low, report.all_high) == running_interval(out, 50 * (number + 1))[1:]
        assert report.log_capital == pytest.approx(logs.max(), rel=1e-9)
        assert 0 < report.scores_p <= 1 and 0 <= report.moved <= 1 and 0 < report.mmd_p <= 1
        assert report.alarm is None and report.diagnosis is None
        json.dumps(report.as_json(), allow_nan=False)
    assert number == 3


def test_a_change_raises_the_alarm_once_and_is_diagnosed(made, streams):
    monitor = Monitor(made[0], false_alarm=0.001)
    assert monitor.feed(streams["digits"]).alarm is None
    assert monitor.diagnose() is None
    reports = [monitor.feed(part) for part in batches([streams["noise"]], 50)]
    alarm = reports[0].alarm
    assert alarm.change == "higher" and 200 <= alarm.row < 215 and abs(alarm.since - 200) < 10
    assert alarm.id == streams["noise"].ids[alarm.row - 200]
    assert all(report.alarm == alarm for report in reports)
    found = reports[-1].diagnosis
    assert found.kind == "sensor shift" and found.rows == 350 - alarm.since
    assert {row["id"] for row in found.unusual} <= set(streams["noise"].ids)
    assert {row["neighbour"] for row in found.unusual} <= set(made[0].reference.ids)
    summary = monitor.summary()
    assert summary["alarm"]["row"] == alarm.row and len(summary["history"]) == 4
    json.dumps(summary, allow_nan=False)


def test_a_batch_larger_than_the_window_has_its_alarm_at_its_row(made, streams):
    detector = made[0]
    twice = dataclasses.replace(
        streams["noise"],
        ids=tuple(f"{number}" for number in range(900)),
        array=np.concatenate([streams["digits"].array, *[streams["noise"].array] * 5])[:900],
        labels=None,
    )
    alarm = Monitor(detector).feed(twice).alarm
    assert 200 <= alarm.row < 215 and abs(alarm.since - 200) < 10 and alarm.id == str(alarm.row)


def same(first, second):
    assert first.capital.rows == second.capital.rows and first.alarm == second.alarm
    for name in ("known", "history"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.capital.staked, second.capital.staked)
    for old, new in zip(first.window, second.window, strict=True):
        np.testing.assert_array_equal(old, new)
    assert (first.stream_rows, first.stream_digest) == (second.stream_rows, second.stream_digest)


def test_a_monitor_continues_bit_by_bit_from_its_state(made, streams, tmp_path):
    detector, folder, _ = made
    parts = list(batches([streams["digits"], streams["noise"]], 40))
    whole = Monitor(detector)
    reports = [whole.feed(part) for part in parts]
    for number, part in enumerate(parts):
        # a new object, and every other time a new detector, for each batch
        one = Detector.load(folder, test=False) if number % 2 else detector
        assert repr(Monitor(one, tmp_path / "state").feed(part)) == repr(reports[number])
    same(whole.state, load_state(tmp_path / "state")[0])
    assert [path.name for path in (tmp_path / "state").iterdir()] == [FILE]


KILLED = """
import os, signal, sys
from featood import Detector, Monitor
from featood.pipeline.detectors.files import image_sets
from featood.pipeline.monitoring.stream import batches

detector, state, last, place = sys.argv[1:]
monitor = Monitor(Detector.load(detector, test=False), state)
names = [os.path.join(place, name) for name in ("digits.npz", "noise.npz")]
for number, part in enumerate(batches(image_sets(names, monitor.detector.network.decoding), 40)):
    if number == int(last):
        os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
    monitor.feed(part)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_monitor_resumes_bit_by_bit(made, streams, tmp_path):
    detector, folder, _ = made
    sets = [streams["digits"], streams["noise"]]
    whole = Monitor(detector)
    for part in batches(sets, 40):
        whole.feed(part)
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "state"), "3", str(streams["place"])],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == -signal.SIGKILL, run.stderr
    monitor = Monitor(detector, tmp_path / "state")
    assert monitor.state.batches == 3
    for part in unseen(batches(sets, 40), monitor.state.stream_rows, monitor.state.stream_digest):
        monitor.feed(part)
    same(whole.state, load_state(tmp_path / "state")[0])


def test_another_stream_is_not_resumed(made, streams, tmp_path):
    monitor = Monitor(made[0], tmp_path / "state")
    monitor.feed(streams["digits"].subset(range(60)))
    state = monitor.state
    rest = list(unseen(batches([streams["digits"]], 50), state.stream_rows, state.stream_digest))
    assert [len(part) for part in rest] == [40, 50, 50] and rest[0].ids[0] == streams["digits"].ids[60]
    for stream in (
        streams["noise"],
        streams["digits"].subset(range(1, 200)),
        streams["digits"].subset(range(30)),
    ):
        with pytest.raises(
            Mismatch, match=r"the first 60 images of this stream are not those .* without --resume"
        ):
            list(unseen(batches([stream], 50), state.stream_rows, state.stream_digest))
    monitor.begin_stream()
    assert (
        len(
            list(
                unseen(
                    batches([streams["noise"]], 50), monitor.state.stream_rows, monitor.state.stream_digest
                )
            )
        )
        == 3
    )


def test_a_state_belongs_to_one_monitor(made, streams, tmp_path):
    detector = made[0]
    first, second = Monitor(detector, tmp_path, 0.02), Monitor(detector, tmp_path)
    first.feed(streams["digits"].subset(range(10)))
    with pytest.raises(Mismatch, match="another process has changed the state"):
        second.feed(streams["digits"].subset(range(10)))
    assert Monitor(detector, tmp_path).state.false_alarm == 0.02
    with pytest.raises(Mismatch, match=r"was begun with a false alarm of 0\.02, not 0\.01"):
        Monitor(detector, tmp_path, 0.01)
    with pytest.raises(Mismatch, match="was begun with a seed of 0, not 1"):
        Monitor(detector, tmp_path, seed=1)
    changed = with_calibration(detector, scores=detector.calibration.scores[:-1])
    for other in (changed, dataclasses.replace(detector, reference=None)):
        with pytest.raises(Mismatch, match="is that of another detector"):
            Monitor(other, tmp_path)


def test_mistakes(made):
    with pytest.raises(UsageError, match="the probability of a false alarm must be between 0 and 1, not 1"):
        Monitor(made[0], false_alarm=1)
    with pytest.raises(UsageError, match="a seed must be at least 0"):
        Monitor(made[0], seed=-1)


def test_a_damaged_state_is_refused(made, streams, tmp_path):
    Monitor(made[0], tmp_path).feed(streams["digits"].subset(range(10)))
    content = (tmp_path / FILE).read_bytes()
    for place in (3, 100, len(content) // 2, len(content) - 5):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(CacheCorrupt, match=r"monitor\.safetensors .*; delete the folder to begin again"):
            Monitor(made[0], tmp_path)
    for damaged in (b"", content[: len(content) // 2], b"{}"):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(CacheCorrupt, match="cannot be decoded"):
            Monitor(made[0], tmp_path)


def test_unread_images_have_no_row(made, streams, tmp_path, monkeypatch):
    monitor = Monitor(made[0], tmp_path)
    images = streams["digits"].subset(range(30))
    read = type(images).read

    def failing(self, row):
        if row % 3 == 0:
            raise DataError("broken")
        return read(self, row)

    monkeypatch.setattr(type(images), "read", failing)
    report = monitor.feed(images)
    assert (report.rows, report.unread, monitor.state.stream_rows) == (20, 10, 30)
    assert monitor.state.window.ids == [name for row, name in enumerate(images.ids) if row % 3]
    monkeypatch.setattr(type(images), "read", lambda *_: failing(images, 0))
    report = monitor.feed(images)
    assert (report.rows, report.unread, report.low, report.all_rows) == (0, 30, None, 20)
    assert monitor.state.unread == 40 and Monitor(made[0], tmp_path).state.unread == 40


def test_without_reference_rows_only_scores_are_compared(made, streams, tmp_path):
    monitor = Monitor(dataclasses.replace(made[0], reference=None), tmp_path)
    report = monitor.feed(streams["noise"])
    assert (
        report.alarm is not None and report.diagnosis is None and report.moved is None and report.mmd is None
    )
    assert report.scores_p < 0.01 and monitor.state.window.features.shape == (150, 0)
    assert Monitor(dataclasses.replace(made[0], reference=None), tmp_path).state.rows == 150


def test_only_the_last_rows_are_kept(made, streams):
    monitor = Monitor(made[0])
    for _ in range(3):
        monitor.feed(streams["digits"])
    assert len(monitor.state.window.ids) == WINDOW == len(monitor.state.window.features)
    assert monitor.state.window.ids[-1] == streams["digits"].ids[-1] and monitor.state.rows == 600


def test_images_of_any_form_are_taken(made, streams, tmp_path):
    images = streams["digits"]
    arrays = [images.read(row) for row in range(30)]
    expected = Monitor(made[0]).feed(images.subset(range(30)))
    assert repr(Monitor(made[0]).feed(arrays)) == repr(expected)
    missing = Monitor(made[0]).feed([arrays[0], str(tmp_path / "none.png"), arrays[1]])
    assert (missing.rows, missing.unread) == (2, 1)
