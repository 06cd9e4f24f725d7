"""Images that are added to a set: the result is that of an extraction of all images at once."""

import dataclasses
import os
import pickle
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from small_extraction import SMALL, run_small

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.data.images.image_set import packed_set
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.forward import Forward
from featood.extractors.live import extract as extract_live

STORES = ("zarr", "hdf5")
KEY = "cifar-resnet20@random/toy/test"


def content(features):
    """Everything that two equal sets have in common."""
    columns = {**features.features, "logits": features.logits, "labels": features.labels}
    values = {name: (column.dtype, column[:].tobytes()) for name, column in columns.items()}
    same = features.content, features.origin.fingerprint, features.fingerprint, features.left_out
    return values, list(features.ids[:]), features.classes, same


def packed(rows, seed=0):
    rng = np.random.default_rng(seed)
    pixels, labels = rng.integers(0, 255, (120, 16, 16, 3), np.uint8), rng.integers(0, 3, 120)
    return packed_set(pixels[:rows], labels[:rows], name="toy", classes=("a", "b", "c"))


def files(root, rows, classes="abc"):
    """Files of three classes, so that later images are sorted between the earlier ones."""
    rng = np.random.default_rng(1)
    for row in range(rows):
        pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
        path = root / classes[row % len(classes)] / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.fromarray(pixels).save(path)
    return dataclasses.replace(open_dataset(str(root)), name="toy", split="test")


def counted(monkeypatch):
    """Count the images that pass through the network."""
    seen, real = [], Forward.__call__

    def call(self, inputs, row):
        seen.append(len(inputs))
        return real(self, inputs, row)

    monkeypatch.setattr(Forward, "__call__", call)
    return seen


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(("before", "after", "computed"), [(75, 110, 46), (64, 70, 6), (9, 11, 11)])
def test_added_rows_give_the_set_of_all_rows(tmp_path, monkeypatch, store, before, after, computed):
    cache, taps = FeatureCache(tmp_path / "c"), {"taps": ("layer1",), "store": store}
    run_small(cache, packed(before), **taps)
    whole = run_small(FeatureCache(tmp_path / "whole"), packed(after), **taps).features
    seen = counted(monkeypatch)
    extraction = run_small(cache, packed(after), append=True, **taps)
    assert sum(seen[1:]) == computed  # the first pass traces the network
    assert content(extraction.features) == content(whole) and cache.verify(KEY) == []
    assert extraction.taken_over == after - computed
    assert extraction.features.origin.run["taken_over"]["rows"] == after - computed
    (entry,) = cache.entries()
    assert entry.complete
    left = {path.name for path in entry.folder.iterdir()}
    assert left == {".lock", "manifest.json", entry.manifest.rows_folder}


def test_rows_are_added_several_times_and_then_extracted_as_usual(tmp_path):
    cache, whole = FeatureCache(tmp_path / "c"), FeatureCache(tmp_path / "whole")
    for rows in (40, 41, 75, 120):
        found = run_small(cache, packed(rows), append=True).features
    expected = content(run_small(whole, packed(120)).features)
    assert content(found) == expected
    again = run_small(cache, packed(120), append=True)
    assert (again.resumed_rows, again.taken_over) == (120, 0) and content(again.features) == expected
    assert run_small(cache, packed(120)).resumed_rows == 120
    replaced = run_small(cache, packed(40), overwrite=True).features
    assert content(replaced) == content(run_small(FeatureCache(tmp_path / "d"), packed(40)).features)
    assert {path.name for path in cache.entry(KEY).folder.iterdir()} > {"columns", "commits"}


@pytest.mark.parametrize("classes", ["abc", "bac"])
def test_files_between_the_earlier_ones_are_added(tmp_path, monkeypatch, classes):
    cache, root = FeatureCache(tmp_path / "c"), tmp_path / "toy"
    run_small(cache, files(root, 90), block_rows=64, batch_size=8)
    images = files(root, 96)
    whole = run_small(FeatureCache(tmp_path / "whole"), images, block_rows=64, batch_size=8).features
    seen = counted(monkeypatch)
    extraction = run_small(cache, images, append=True, block_rows=64, batch_size=8)
    assert content(extraction.features) == content(whole)
    assert extraction.taken_over == 96 - sum(seen[1:]) > 48


def test_a_new_class_numbers_the_earlier_rows_again(tmp_path):
    cache, root = FeatureCache(tmp_path / "c"), tmp_path / "toy"
    run_small(cache, files(root, 40, "bc"), batch_size=8)
    images = files(root, 6, "a")
    added = run_small(cache, images, append=True, batch_size=8)
    whole = run_small(FeatureCache(tmp_path / "whole"), images, batch_size=8)
    assert added.taken_over and content(added.features) == content(whole.features)
    assert added.features.classes == ("a", "b", "c")


def test_images_that_could_not_be_read_are_tried_and_reported_again(tmp_path):
    cache, root = FeatureCache(tmp_path / "c"), tmp_path / "toy"
    (files(root, 60).root / "a" / "003.png").write_bytes(b"no image")
    run_small(cache, files(root, 60), batch_size=8)
    images = files(root, 66)
    added = run_small(cache, images, append=True, batch_size=8)
    whole = run_small(FeatureCache(tmp_path / "whole"), images, batch_size=8)
    assert added.failed == whole.failed and len(added.failed) == 1 and added.taken_over
    assert content(added.features) == content(whole.features)
    with pytest.raises(DataError, match=r"003\.png.*--strict"):
        run_small(cache, files(root, 72), append=True, batch_size=8, strict=True)


@dataclasses.dataclass(frozen=True)
class RowNumbers:
    kind: ClassVar[str] = "row"
    by_batch: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, module, inputs, row, setting):
        return {"row": torch.arange(row, row + len(inputs), dtype=torch.float32)[:, None]}


def test_columns_that_depend_on_the_row_are_taken_over_only_where_it_is_the_same(tmp_path):
    how = {"extras": (RowNumbers(),), "batch_size": 8}
    cache, root = FeatureCache(tmp_path / "c"), tmp_path / "toy"
    run_small(cache, files(root, 60), **how)
    images = files(root, 66)
    added = run_small(cache, images, append=True, **how)
    whole = run_small(FeatureCache(tmp_path / "whole"), images, **how)
    assert content(added.features) == content(whole.features) and 0 < added.taken_over < 32


def test_what_does_not_belong_into_the_set_is_refused_and_nothing_is_lost(tmp_path, monkeypatch):
    cache, root = FeatureCache(tmp_path / "c"), tmp_path / "toy"
    expected = content(run_small(cache, files(root, 40)).features)
    images = files(root, 50)
    refused = {
        "other settings .differing: columns": {"taps": ("layer1",)},
        "other settings .differing: dtype": {"dtype": "float32"},
        "other settings .differing: batch_size": {"batch_size": 10},
        "other settings .differing: store": {"store": "hdf5"},
    }
    for match, how in refused.items():
        with pytest.raises(Mismatch, match=match):
            run_small(cache, images, append=True, **how)
    backbone = resolve_backbone("cifar-resnet20", "random", 3)
    options = ExtractOptions(block_rows=32, batch_size=20, append=True)
    with pytest.raises(Mismatch, match=r"settings \(differing: transform\)"):
        extract(backbone, images, dataclasses.replace(SMALL, mean=(0.4,)), cache, options)
    with monkeypatch.context() as patch:
        patch.setattr("featood.extractors.extract.library_versions", lambda: {"torch": "0.1"})
        with pytest.raises(Mismatch, match=r"other versions \(differing: .*torch"):
            run_small(cache, images, append=True)
    with monkeypatch.context() as patch:
        patch.setattr("featood.extractors.extract.platform.machine", lambda: "another")
        with pytest.raises(Mismatch, match=r"settings \(differing: processor\)"):
            run_small(cache, images, append=True)
    path, time = root / "b" / "004.png", os.stat(root / "b" / "004.png").st_mtime
    original = path.read_bytes()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    with pytest.raises(
        Mismatch, match=r"have changed since it was extracted, such as b/004\.png; .*--overwrite"
    ):
        run_small(cache, images, append=True)
    os.utime(path, (time - 9, time - 9))
    with pytest.raises(Mismatch, match="have changed since it was extracted; "):
        run_small(cache, images, append=True)
    path.rename(tmp_path / "gone.png")
    with pytest.raises(Mismatch, match=r"not there any more \(b/004\.png\)"):
        run_small(cache, files(root, 0), append=True)
    path.write_bytes(original)
    with pytest.raises(Mismatch, match="other inputs"):
        run_small(cache, images)
    assert content(cache[KEY]) == expected and len(list(cache.entry(KEY).folder.iterdir())) == 5
    assert content(run_small(cache, images, append=True).features) != expected


def test_changed_and_fewer_packed_images_are_refused(tmp_path):
    cache = FeatureCache(tmp_path / "c")
    expected = content(run_small(cache, packed(40)).features)
    with pytest.raises(Mismatch, match="have changed since it was extracted; extract all of it again"):
        run_small(cache, packed(50, seed=1), append=True)
    with pytest.raises(Mismatch, match="40 images, more than the current 30"):
        run_small(cache, packed(30), append=True)
    with pytest.raises(UsageError, match=r"--append keeps .* --overwrite replaces"):
        run_small(cache, packed(50), append=True, overwrite=True)
    assert content(cache[KEY]) == expected


def test_rows_are_added_to_nothing_and_an_incomplete_set_is_not_added_to(tmp_path):
    cache = FeatureCache(tmp_path / "c")
    added = run_small(cache, packed(40), append=True)
    assert added.taken_over == 0 and not added.features.origin.rows_folder
    (cache.entry(KEY).folder / "commits" / "00001.json").unlink()
    with pytest.raises(Mismatch, match="40 rows of other inputs than the current 50"):
        run_small(cache, packed(50), append=True)
    assert run_small(cache, packed(40), append=True).resumed_rows == 32


def test_an_interrupted_addition_leaves_the_set_as_it_was_and_is_continued(tmp_path):
    cache, whole = FeatureCache(tmp_path / "c"), FeatureCache(tmp_path / "whole")
    before, after = (
        content(run_small(cache, packed(70)).features),
        content(run_small(whole, packed(110)).features),
    )

    class Stop(Exception):
        pass

    def stop(done, total):
        if done > 96:
            raise Stop

    backbone = resolve_backbone("cifar-resnet20", "random", 3)
    options = ExtractOptions(block_rows=32, batch_size=20, append=True)
    with pytest.raises(Stop):
        extract(backbone, packed(110), SMALL, cache, options, progress=stop)
    assert content(cache[KEY]) == before
    resumed = extract(backbone, packed(110), SMALL, cache, options)
    assert resumed.resumed_rows >= 64 and content(resumed.features) == after and cache.verify(KEY) == []


class Copies:
    """An engine that computes each block by a copy of the work, as another process does."""

    def map(self, work, items):
        sent = pickle.dumps(work)
        for item in items:
            yield from pickle.loads(sent)([item])


def test_other_processes_take_rows_over_too(tmp_path):
    cache = FeatureCache(tmp_path / "c")
    run_small(cache, packed(75))
    whole = run_small(FeatureCache(tmp_path / "whole"), packed(110)).features
    backbone = resolve_backbone("cifar-resnet20", "random", 3)
    options = ExtractOptions(block_rows=32, batch_size=20, append=True)
    added = extract(backbone, packed(110), SMALL, cache, options, engine=Copies())
    assert added.taken_over == 64 and content(added.features) == content(whole)


def test_the_command_says_what_was_taken_over(featood, tmp_path):
    root = tmp_path / "toy"
    words = (
        "extract",
        "--backbone",
        "cifar-resnet20",
        "--weights",
        "random",
        "--dataset",
        root,
        "--batch-size",
        "8",
    )
    out = []
    for rows in (40, 46):
        files(root, rows)
        code, text, err = featood(*words, "--append", "--workers", "0", "--cache", tmp_path / "c")
        assert code == 0, err
        out.append(text)
    assert "taken over" not in out[0] and re.search(r"46 rows; .*; \d+ were taken over", out[1])
    assert len(FeatureCache(tmp_path / "c").entries()) == 1
    code, _, err = featood(*words, "--append", "--image-size", "8", "--cache", tmp_path / "c")
    assert code == 5 and "differing: transform" in err
    assert featood(*words, "--append", "--overwrite", "--cache", tmp_path / "c")[0] == 2


def test_a_loader_has_no_images_by_name_to_add(tmp_path):
    with pytest.raises(UsageError, match="sets of images by name"):
        extract_live(torch.nn.Linear(3, 2), torch.rand(4, 3), append=True, quiet=True)
