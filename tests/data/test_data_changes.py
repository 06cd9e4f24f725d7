import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from brightness import brightness_net, write_images
from PIL import Image
from small_extraction import run_small

from featood.cache import FeatureCache
from featood.data import ImageSet, dataset_key, open_dataset, packed_set
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    for row in range(5):
        pixels = RNG.integers(256, size=(100, 300, 3), dtype=np.uint8)
        (tmp_path / "set").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "set" / f"{row}.bmp")
    return tmp_path / "set"


def test_digests_of_packed_sets_have_not_changed():
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    labelled = packed_set(images, np.array([0, 2, 1, -1, 2]))
    assert labelled.digest() == "aa81de506b8d1cc6ed377c3ee15de1104e5b5d1e38fe1ef82a233ed1de777e35"
    bare = packed_set(np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4))
    assert bare.digest() == "b9b03073ef3c79c32e3a668b18f0becb3fb34af9ba961a4701a68447a34cf3f1"
    noise = open_dataset("noise:uniform,n=50")
    assert (
        noise.digest() == noise.stamp() == "dc3ea391cbaa244b8ea6ab5b52099a93c3a6cc04c08fa012664d469cb9726af3"
    )


def test_real_packed_sets_keep_their_digests(test_data):
    digest = open_dataset("mnist", "test", test_data).digest()
    assert digest == "9afd2f57e1b95b316a3dbd5daa759ddbc6e0b8cf4fca3458bc6b57a8421ea036"


@pytest.mark.parametrize("place", [0, 1 << 12, 1 << 16, -1])
def test_digests_differ_for_files_of_the_same_names_and_sizes(folder, place):
    before = open_dataset(folder)
    digest, stamp = before.digest(), before.stamp()
    assert (open_dataset(folder).digest(), open_dataset(folder).stamp()) == (digest, stamp)
    for path in folder.iterdir():  # other images under the old names
        content = bytearray(path.read_bytes())
        at = place % len(content)
        content[at : at + 8192] = bytes(byte ^ 255 for byte in content[at : at + 8192])
        path.write_bytes(content)
    assert open_dataset(folder).digest() != digest
    assert open_dataset(folder).stamp() != stamp


@pytest.mark.parametrize("size", [1, 4096, 65536])
def test_files_up_to_64_kib_are_digested_completely(tmp_path, size):
    digests = []
    for place in {0, size // 3, size - 1}:
        content = bytearray(size)
        content[place] = 1
        (tmp_path / "x").write_bytes(content)
        digests.append(ImageSet(ids=("x",), root=tmp_path).digest())
    assert len(set(digests)) == len(digests)


def test_the_digest_depends_on_content_and_the_stamp_on_files(folder):
    images = open_dataset(folder)
    digest, stamp = images.digest(), images.stamp()
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)  # keeps the modification times
    assert (open_dataset(copy).digest(), open_dataset(copy).stamp()) == (digest, stamp)
    os.utime(copy / "3.bmp", ns=(1, 1))
    assert open_dataset(copy).digest() == digest
    assert open_dataset(copy).stamp() != stamp
    changed = ImageSet(ids=images.ids, root=folder, labels=np.arange(5))
    assert len({images.digest(), changed.digest(), images.subset([1, 0, 2, 3, 4]).digest()}) == 3
    assert len({images.stamp(), changed.stamp(), images.subset([0]).stamp()}) == 3
    (folder / "3.bmp").unlink()
    assert len({images.digest(), digest}) == len({images.stamp(), stamp}) == 2


def test_digests_of_many_files_do_not_depend_on_threads(tmp_path, monkeypatch):
    from featood.data import contents

    for row in range(700):
        (tmp_path / f"{row:03d}.png").write_bytes(os.urandom(20))
    images = open_dataset(tmp_path)
    digest = images.digest()
    for run, threads in ((1, 1), (37, 3)):
        monkeypatch.setattr(contents, "RUN", run)
        monkeypatch.setattr(contents, "THREADS", threads)
        assert images.digest() == digest


def test_stamps_of_packed_files(tmp_path):
    np.savez(
        tmp_path / "test.npz", images=RNG.integers(256, size=(4, 3, 3), dtype=np.uint8), labels=np.arange(4)
    )
    images = open_dataset(tmp_path)
    assert images.sources == (tmp_path / "test.npz",)
    assert images.stamp() == open_dataset(tmp_path).stamp() != images.subset([0, 1]).stamp()
    os.utime(tmp_path / "test.npz", ns=(1, 1))
    again = open_dataset(tmp_path)
    assert again.stamp() != images.subset([0]).stamp()
    assert again.digest() == images.digest()
    before = again.stamp()
    np.savez(
        tmp_path / "test.npz", images=RNG.integers(256, size=(4, 3, 3), dtype=np.uint8), labels=np.arange(4)
    )
    assert open_dataset(tmp_path).stamp() != before


def test_registered_packed_sets_list_their_files(test_data):
    for name in ("cifar10", "mnist"):
        assert open_dataset(name, "test", test_data).sources == (test_data / name / "test.npz",)


# --- between two extractions, and within one --------------------------------------------------------------


def swapped(folder):
    """Swap the images of files, keeping the names."""
    first, last = ((folder / name).read_bytes() for name in ("000.png", "011.png"))
    (folder / "000.png").write_bytes(last)
    (folder / "011.png").write_bytes(first)


CHANGES = {
    "a file fewer": lambda folder: (folder / "003.png").unlink(),
    "a file more": lambda folder: shutil.copy(folder / "003.png", folder / "100.png"),
    "another order": lambda folder: (folder / "000.png").rename(folder / "999.png"),
    "images swapped": swapped,
}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_set_is_not_mixed_with_the_old_one(featood, tmp_path, change):
    write_images(tmp_path / "wild", 120)
    words = ("extract", *brightness_net(tmp_path, [40, 120]), "--dataset", str(tmp_path / "wild"))
    assert featood(*words)[0] == 0
    before = contents(tmp_path / "cache")
    change(tmp_path / "wild")
    code, _, err = featood(*words)
    last = err.splitlines()[-1]
    now = len(list((tmp_path / "wild").iterdir()))
    assert code == 5 and f"holds 12 rows of other inputs than the current {now}" in last, err
    assert "--overwrite" in last and "--name" in last
    assert contents(tmp_path / "cache") == before
    assert featood(*words, "--overwrite")[0] == 0
    entry = FeatureCache(tmp_path / "cache").entries()[0]
    assert entry.manifest.rows == now
    other = tmp_path / "fresh"
    assert featood(*words, "--cache", str(other))[0] == 0
    found, expected = (FeatureCache(root)[entry.key] for root in (tmp_path / "cache", other))
    assert (
        list(found.ids[:])
        == list(expected.ids[:])
        == sorted(path.name for path in (tmp_path / "wild").iterdir())
    )
    assert found.features["avg"][:].tobytes() == expected.features["avg"][:].tobytes()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_interrupted_extraction_does_not_resume_with_other_images(tmp_path, monkeypatch, change):
    class Stop(Exception):
        pass

    write_images(tmp_path / "wild", 120)
    cache = FeatureCache(tmp_path / "cache")
    monkeypatch.setattr("featood.cache.writer.SetWriter.finish", lambda *_: (_ for _ in ()).throw(Stop))
    how = {"block_rows": 5, "batch_size": 5, "workers": 0}
    with pytest.raises(Stop):
        run_small(cache, open_dataset(tmp_path / "wild"), **how)
    monkeypatch.undo()
    entry = cache.entries()[0]
    next(entry.folder.glob("commits/00002.json")).unlink()  # as if stopped before the last block
    with pytest.raises(CacheCorrupt):
        cache[entry.key]
    change(tmp_path / "wild")
    images = open_dataset(tmp_path / "wild")
    with pytest.raises(Mismatch, match="rows of other inputs than"):
        run_small(cache, images, **how)
    again = run_small(cache, images, **how, overwrite=True)
    whole = run_small(FeatureCache(tmp_path / "whole"), images, **how)
    assert again.resumed_rows == 0
    assert again.features.features["avg"][:].tobytes() == whole.features.features["avg"][:].tobytes()


def test_images_that_change_during_the_extraction_are_detected(featood, tmp_path, monkeypatch):
    write_images(tmp_path / "wild", 120)
    plain = FeatureCache.writer

    def changing(*args, **options):
        CHANGES["images swapped"](tmp_path / "wild")
        return plain(*args, **options)

    words = ("extract", *brightness_net(tmp_path, [40, 120]), "--dataset", str(tmp_path / "wild"))
    with monkeypatch.context() as patched:
        patched.setattr(FeatureCache, "writer", changing)
        code, _, err = featood(*words)
    assert code == 0 and "changed during the extraction" in err and "--overwrite" in err
    assert featood(*words)[0] == 5
    code, _, err = featood(*words, "--overwrite")
    assert code == 0 and "changed while" not in err


def test_every_row_occurs_once_for_any_blocks_batches_and_workers(tmp_path):
    """Blocks, batches and workers do not divide the number of rows, and differ in the second run."""
    write_images(tmp_path / "wild", 120, rows=23)
    images = open_dataset(tmp_path / "wild")
    whole = run_small(
        FeatureCache(tmp_path / "whole"), images, workers=0, block_rows=23, batch_size=1
    ).features
    cache = FeatureCache(tmp_path / "cache")
    run_small(cache, images, workers=1, block_rows=7, batch_size=4)
    next(cache.entries()[0].folder.glob("commits/00001.json")).unlink()
    shared = run_small(cache, images, workers=2, block_rows=7, batch_size=3)
    assert shared.resumed_rows == 16
    assert list(shared.features.ids[:]) == list(whole.ids[:]) == [f"{row:03d}.png" for row in range(23)]
    np.testing.assert_allclose(
        shared.features.features["avg"][:], whole.features["avg"][:], rtol=1e-5, atol=1e-6
    )


# --- names ------------------------------------------------------------------------------------------------


def test_the_key_of_a_path_is_the_name_of_its_set(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    (folder.parent / "link").symlink_to(folder)
    name = open_dataset(folder).name
    forms = (
        folder,
        str(folder),
        f"{folder}/",
        "./set",
        "./set/",
        Path("set"),
        Path("set/"),
        "~/set",
        "./link",
        ".//set",
    )
    assert {dataset_key(form) for form in forms} == {name}
    shutil.rmtree(folder)
    assert dataset_key("./set") == dataset_key(folder) == name, "the folder need not exist"
    with pytest.raises(DataError):
        open_dataset("./set")


def test_keys_of_names(tmp_path):
    for name, key in (("cifar10:0-5", "cifar10:0-5"), ("CIFAR10", "cifar10"), ("Tiny_ImageNet", "tiny-imagenet"),
                      ("mywild", "mywild"), ("table-noise:uniform", "table-noise:uniform"), ("segment", "segment"),
                      ("noise:n=5", "noise:n=5")):  # fmt: skip
        assert dataset_key(name) == key
    (tmp_path / "x").symlink_to(tmp_path / "x")
    assert dataset_key(tmp_path / "x").startswith("x-")
    for bad in ("../x", "a\nb", "./a/../b"):
        with pytest.raises(UsageError):
            dataset_key(bad)
    assert open_dataset("noise:n=5").name == dataset_key("noise:n=5")
