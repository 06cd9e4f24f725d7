"""Extraction and scoring of pixels: bounded memory, and the same values after a kill."""

import json
import signal
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
import torch
from helpers.live_memory import LiveTensors
from helpers.scenes import CODE, write_scenes
from PIL import Image

from featood.cache import FeatureSet, open_cache
from featood.data.masked.layouts import open_masked
from featood.errors import CacheCorrupt, UsageError
from featood.extractors.dense import DenseForward, image_maps, plan_dense
from featood.extractors.transform import Transform
from featood.heads import create_head
from featood.pipeline import dense_extraction
from featood.pipeline.dense_extraction import DenseOptions, extract_pixels
from featood.pipeline.dense_scoring import score_pixels
from featood.pipeline.extraction import Network, known_accuracy
from featood.pipeline.selection import select
from featood.reporter import Reporter

SIZE = (64, 64)
"""Pixels of an image, about as many as the rows of a block."""


class Lines(Reporter):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_scenes(tmp_path, {"train": 7, "test": 5}, SIZE)


def extracted(cache, batch_size=2, **how):
    options = DenseOptions(pixels=0, batch_size=batch_size, **how)
    return extract_pixels(open_cache(cache, [CODE]), "./scenes", ["train"], Network(CODE), options)[0]


def scored(cache, folder=None, heads=("msp", "mahalanobis"), reporter=None):
    chosen = select(open_cache(cache, [CODE]))
    fitted = {name: create_head(name).fit(chosen.open("train")) for name in heads}
    return score_pixels(chosen, fitted, folder=folder, reporter=reporter or Lines())


def killed(code, stop):
    """Run code until a line of its output satisfies `stop`, and kill the process."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if stop(line):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL


PROGRESS = """
    import time, torch
    from featood.cache import open_cache
    from featood.heads import create_head
    from featood.pipeline.dense_extraction import DenseOptions, extract_pixels
    from featood.pipeline.dense_scoring import score_pixels
    from featood.pipeline.extraction import Network
    from featood.pipeline.selection import select
    from featood.reporter import Reporter
    torch.set_num_threads(1)

    class Printing(Reporter):
        def progress(self, what, done, total, **figures):
            print(what, done, flush=True)
            time.sleep(0.02)

    cache = open_cache("killed", ["python:net.py:build"])
"""
EXTRACT = """
    options = DenseOptions(pixels=0, batch_size=2)
    extract_pixels(cache, "./scenes", ["train"], Network("python:net.py:build"), options, reporter=Printing())
"""
SCORE = """
    chosen = select(cache)
    heads = {name: create_head(name).fit(chosen.open("train")) for name in ("msp", "mahalanobis")}
    score_pixels(chosen, heads, reporter=Printing())
"""


def test_a_killed_extraction_continues_with_the_same_bytes(scenes):
    killed(PROGRESS + EXTRACT, lambda line: line.startswith("extracting") and line.split()[-1] == "5")
    (entry,) = open_cache("killed").entries()
    assert 0 < entry.committed < entry.manifest.blocks
    written = {
        path: path.stat().st_mtime_ns for path in entry.folder.rglob("*.json") if "commits" in path.parts
    }
    whole, resumed = extracted("whole"), extracted("killed")
    assert len(whole) == 7 * 63 * 64 - 30
    assert resumed.feature()[:].tobytes() == whole.feature()[:].tobytes()
    assert resumed.logits[:].tobytes() == whole.logits[:].tobytes()
    assert resumed.labels[:].tobytes() == whole.labels[:].tobytes()
    assert list(resumed.ids[:]) == list(whole.ids[:])
    assert resumed.fingerprint == whole.fingerprint and resumed.content == whole.content
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_any_missing_blocks_are_written_again(scenes):
    whole = extracted("whole")
    cut = extracted("cut")
    folder = open_cache("cut").entries()[0].folder
    commits = sorted((folder / "commits").iterdir())
    for record in (commits[1], commits[3]):
        record.unlink()
    with pytest.raises(CacheCorrupt):
        open_cache("cut")[cut.name]
    assert extracted("cut").content == whole.content


def test_a_block_has_the_rows_of_a_batch(scenes, monkeypatch):
    whole = extracted("whole")
    assert whole.origin.block_rows == 2 * 64 * 64 - 2 * 64 and whole.origin.blocks == 4
    assert extracted("sampled", batch_size=1).origin.block_rows == 4096
    with monkeypatch.context() as patch:
        patch.setattr(dense_extraction, "BLOCK_BYTES", 1)
        small = extracted("small")
    assert small.origin.block_rows == 4096 and small.origin.blocks == 7
    for read in (lambda found: found.feature(), lambda found: found.logits, lambda found: found.labels):
        assert read(whole)[:].tobytes() == read(small)[:].tobytes()
    assert list(whole.ids[:]) == list(small.ids[:])
    # a set with blocks of another size is continued, not refused
    records = sorted((open_cache("small").entries()[0].folder / "commits").iterdir())
    for record in records[2:4]:
        record.unlink()
    assert extracted("small").content == small.content


def test_images_without_rows_are_passed_over(scenes, tmp_path):
    for number in (0, 3):
        Image.new("L", SIZE[::-1], 255).save(tmp_path / f"scenes/train/masks/{number}.png")
    found = extracted("cache")
    assert len(found) == 5 * 63 * 64
    assert {name.split("@")[0] for name in found.ids[:]} == {f"train/images/{n}.png" for n in (1, 2, 4, 5, 6)}


def test_a_killed_scoring_continues_with_the_same_figures(scenes, tmp_path):
    extracted("whole")
    extracted("killed")
    whole = scored("whole")
    killed(PROGRESS + SCORE, lambda line: line.startswith("scoring") and line.split()[-1] == "5")
    maps = sorted(tmp_path.joinpath("killed").rglob("maps/*/test/*/*.npy"))
    assert 5 <= len(maps) < 10
    before = {path: path.stat().st_mtime_ns for path in maps}
    lines = Lines()
    resumed = scored("killed", reporter=lines)
    assert sum("of 5 maps already" in line for line in lines.lines) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    for label, parts in whole.maps.items():
        for one, other in zip(parts, resumed.maps[label], strict=True):
            assert one.tobytes() == other.tobytes()
    assert resumed.rows(thresholds=500) == whole.rows(thresholds=500)


def test_maps_of_another_fit_are_replaced_and_those_of_other_heads_kept(scenes, tmp_path):
    extracted("cache")
    first = scored("cache", "maps")
    kept = (tmp_path / "maps/msp/000000.npy").stat().st_mtime_ns
    chosen = select(open_cache("cache", [CODE]))
    heads = {
        "msp": create_head("msp").fit(chosen.open("train")),
        "mahalanobis": create_head("mahalanobis", shrinkage="oas").fit(chosen.open("train")),
    }
    lines = Lines()
    second = score_pixels(chosen, heads, folder="maps", reporter=lines)
    assert any("mahalanobis has maps made with other options, tensors_sha256" in line for line in lines.lines)
    assert (tmp_path / "maps/msp/000000.npy").stat().st_mtime_ns == kept
    expected = score_pixels(chosen, heads, folder="fresh")
    np.testing.assert_array_equal(second.maps["mahalanobis"][3], expected.maps["mahalanobis"][3])
    assert first.folder == second.folder


def test_damaged_maps_are_named(scenes, tmp_path):
    extracted("cache")
    found = scored("cache", "maps", ["msp"])
    path = tmp_path / "maps/msp/000001.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CacheCorrupt, match=r"000001\.npy cannot be read .*score again"):
        found.rows()
    path.unlink()
    assert scored("cache", "maps", ["msp"]).rows()
    np.save(path, np.zeros((4, 4)))
    with pytest.raises(CacheCorrupt, match="no score map"):
        found.rows()


def test_score_maps_are_no_sets_of_the_cache(scenes, tmp_path):
    extracted("cache")
    before = list(open_cache("cache"))
    folder = scored("cache").folder
    assert folder.resolve().relative_to(tmp_path / "cache").parts[2::2] == ("maps", "test")
    assert list(open_cache("cache")) == before
    assert not open_cache("cache").garbage(incomplete=True, older_than=0)
    with pytest.raises(UsageError, match="score maps are kept there"):
        open_cache("cache").folder("net", "scenes", "maps")


def growth(run, small, large):
    """Bytes of arrays by which the peak grows for each further image."""
    peaks = []
    for count in (small, large):
        tracemalloc.start()
        run(count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (peaks[1] - peaks[0]) / (large - small)


def test_memory_does_not_depend_on_the_number_of_images(tmp_path, monkeypatch):
    pixels = SIZE[0] * SIZE[1]
    for count in (2, 4, 12):  # the first run loads modules
        (tmp_path / str(count)).mkdir()
        write_scenes(tmp_path / str(count), {"train": count, "test": count}, SIZE)

    def extract(count):
        monkeypatch.chdir(tmp_path / str(count))
        extracted("cache")

    def score(count):
        monkeypatch.chdir(tmp_path / str(count))
        scored("cache", heads=["msp"]).rows(thresholds=200)

    extract(2)
    assert growth(extract, 4, 12) < 0.2 * pixels * (6 * 2 + 3 * 4)  # float16 features and float32 logits
    score(2)
    assert growth(score, 4, 12) < 0.5 * pixels * 4  # a map


def test_the_accuracy_of_a_set_is_that_of_all_blocks():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(10_000, 3)).astype("f4"), rng.integers(-1, 3, 10_000)
    labels[:4096] = -1  # a block without classes
    known = labels >= 0
    expected = (logits[known].argmax(1) == labels[known]).mean()
    assert known_accuracy(FeatureSet(logits=logits, labels=labels)) == pytest.approx(expected, rel=1e-12)
    assert known_accuracy(FeatureSet(logits=logits, labels=np.full(10_000, -1))) is None
    assert known_accuracy(FeatureSet(logits=logits, labels=np.append(labels[1:], 3))) is None


def test_tensors_of_one_batch_are_alive(scenes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("net").build().eval()
    forward = DenseForward(module, plan_dense(module, torch.zeros(2, 3, *SIZE)))
    images, transform = open_masked("./scenes", "train").images, Transform(3, *SIZE, 0, (0.5,), (0.25,))

    def peak(batches):
        with LiveTensors() as tensors:
            found = [shape for _, _, shape in image_maps(forward, images, transform, batches, "float32")]
        assert found == [SIZE] * 2 * len(batches)
        return tensors.peak

    assert peak([[0, 1], [2, 3], [4, 5]]) == peak([[0, 1]])


def test_the_command_continues_and_says_what_is_exact(scenes, featood, tmp_path):
    words = ["--backbone", CODE, "--dataset", "./scenes", "--pixels", "50"]
    assert featood("dense", "extract", *words)[0] == 0
    score = ["dense", "score", "--code", CODE, "--head", "msp", "--maps", "maps"]
    code, _, err = featood(*score, "--json", "all.json")
    assert code == 0 and "maps already" not in err and "computed at" not in err
    code, _, err = featood(*score, "--json", "some.json", "--thresholds", "200")
    assert code == 0 and "maps/msp has 5 of 5 maps already" in err
    assert "AUPR-in and AUTC are computed at 1 of 101 in-distribution scores" in err
    every, some = (json.loads((tmp_path / name).read_text())["rows"][0] for name in ("all.json", "some.json"))
    assert every["steps"] == [1, 1] and some["steps"] == [101, 1]
    for name in ("auroc", "aupr_out", "fpr95", "fpr95_ood", "siou", "f1", "pro"):
        assert some[name] == pytest.approx(every[name], rel=1e-12)
