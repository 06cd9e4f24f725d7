"""Downloads of the archives of sets for benchmarks, and what is found without them."""

import dataclasses
import tarfile

import numpy as np
import pytest
from file_server import serving
from PIL import Image

from featood.data import download, get_entry, list_datasets, open_dataset
from featood.data.catalogue import registry
from featood.errors import DataError


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 2, 3), value, np.uint8)).save(path)


def test_downloads_of_archives(tmp_path, monkeypatch, featood):
    for number in range(2):
        picture(tmp_path / "made" / "LSUN" / "test" / f"{number}.png")
    with tarfile.open(tmp_path / "LSUN.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "LSUN", "LSUN")
    content = (tmp_path / "LSUN.tar.gz").read_bytes()
    entry = get_entry("lsun-crop")
    assert entry.files[0][2].startswith("md5:")
    with serving() as site:
        site.files["/LSUN.tar.gz"] = content
        address = f"{site.address}/LSUN.tar.gz"
        served = dataclasses.replace(entry, files=((address, "LSUN.tar.gz", ""),))
        monkeypatch.setitem(registry._BY_NAME, "lsun-crop", served)
        assert download("lsun-crop", tmp_path / "d", None) == ["test"]
        assert len(open_dataset("lsun-crop", None, tmp_path / "d")) == 2
        wrong = dataclasses.replace(entry, files=((address, "LSUN.tar.gz", "md5:" + "0" * 32),))
        monkeypatch.setitem(registry._BY_NAME, "lsun-crop", wrong)
        with pytest.raises(DataError, match="damaged"):
            download("lsun-crop", tmp_path / "e", None)
        monkeypatch.setitem(registry._BY_NAME, "lsun-crop", served)
        code, out, err = featood(
            "extract", "--backbone", "cifar-resnet20", "--weights", "random", "--dataset", "digits", "--data-dir",
            tmp_path / "f", "--split", "test",
        )  # fmt: skip
        assert code == 0, err
        code, _, err = featood("score", "--head", "energy", "--ood", "lsun-crop")
        assert code == 3 and "--download" in err
        code, out, err = featood("score", "--head", "energy", "--ood", "lsun-crop", "--download")
        assert code == 0 and "no checksum is published" in err and "lsun-crop" in out


def test_files_to_download_are_found_when_they_are_there():
    for entry in list_datasets():
        for address, name, checksum in entry.files:
            assert address.startswith(("https://", "http://")) and ".." not in name
            assert checksum == "" or checksum.startswith(("md5:", "sha256:"))
            stem = (
                name.partition("/")[0]
                .removesuffix(".gz")
                .removesuffix(".tar")
                .removesuffix(".tgz")
                .removesuffix(".zip")
            )
            found = stem in (entry.name, *(folder for folder in entry.folders if "/" not in folder))
            assert found or "." in entry.folders, entry.name
