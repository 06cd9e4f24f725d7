import io
import stat
import tarfile
import zipfile

import pytest
from PIL import Image

from featood.data import available_splits, open_dataset
from featood.data.archives import unpack
from featood.errors import DataError


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (1, 2, 3)).save(out, "PNG")
    return out.getvalue()


def make_tar(path, files, mode="w:gz", special=()):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in special:
            tar.addfile(info)


def untouched(folder, archive):
    """Whether there is nothing but the archive, in this folder and the parent."""
    return [p.name for p in folder.iterdir()] == [archive.name] and not (folder.parent / "evil").exists()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    return tmp_path / "inner"


@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar", "w")])
def test_odin_archives_are_unpacked_in_place(folder, suffix, mode):
    make_tar(folder / f"LSUN{suffix}", {"LSUN/test/0.png": png(), "LSUN/test/1.png": png()}, mode)
    assert available_splits("lsun-crop", folder) == ["test"]
    assert len(list(folder.iterdir())) == 1, "listing splits does not unpack"
    images = open_dataset("lsun-crop", None, folder)
    assert (images.ids, images.read(1).tolist()[0][0]) == (("0.png", "1.png"), [1, 2, 3])
    assert (folder / "lsun-crop" / "test" / "0.png").is_file()
    assert sorted(p.name for p in folder.iterdir()) == [f"LSUN{suffix}", "lsun-crop"]


def test_zip(folder):
    with zipfile.ZipFile(folder / "isun.zip", "w") as zipped:
        zipped.writestr("a/", "")
        zipped.writestr("a/0.png", png())
        zipped.writestr("b/0.png", png())
    assert open_dataset("isun", None, folder).classes == ("a", "b")


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


EVIL_TARS = {
    "parent": ({"../evil": b"x"}, ()),
    "hidden parent": ({"a/../../evil": b"x"}, ()),
    "backslash": ({"..\\evil": b"x"}, ()),
    "absolute": ({"/tmp/featood-evil": b"x"}, ()),
    "drive": ({"C:/evil": b"x"}, ()),
    "symlink": ({}, [link("a", tarfile.SYMTYPE, "/etc")]),
    "write through symlink": ({}, [link("a", tarfile.SYMTYPE, "..")]),
    "hardlink": ({}, [link("a", tarfile.LNKTYPE, "/etc/passwd")]),
    "character device": ({}, [link("a", tarfile.CHRTYPE, "")]),
    "block device": ({}, [link("a", tarfile.BLKTYPE, "")]),
    "fifo": ({}, [link("a", tarfile.FIFOTYPE, "")]),
}


@pytest.mark.parametrize("case", EVIL_TARS)
def test_malicious_tar_is_refused_and_leaves_nothing(folder, case):
    files, special = EVIL_TARS[case]
    archive = folder / "LSUN.tar.gz"
    make_tar(archive, {"good.png": png(), **files}, special=special)
    with pytest.raises(DataError, match="refused") as caught:
        open_dataset("lsun-crop", None, folder)
    assert "LSUN.tar.gz" in str(caught.value)
    assert untouched(folder, archive)


@pytest.mark.parametrize("case", ["../evil", "/tmp/featood-evil", "symlink", "device"])
def test_malicious_zip_is_refused(folder, case):
    archive = folder / "x.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        info = zipfile.ZipInfo(case)
        if case == "symlink":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        if case == "device":
            info.external_attr = (stat.S_IFCHR | 0o666) << 16
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="refused"):
        unpack(archive, folder / "x")
    assert untouched(folder, archive)


def test_bombs(folder):
    archive = folder / "bomb.tar.gz"
    make_tar(archive, {"zeros.png": bytes(120 << 20)})
    with pytest.raises(DataError, match="too many"):
        unpack(archive, folder / "x")
    assert untouched(folder, archive)

    archive.unlink()
    archive = folder / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros.png", bytes(120 << 20))
    with pytest.raises(DataError, match="too many"):
        unpack(archive, folder / "x")
    assert untouched(folder, archive)


def test_entry_and_byte_limits(folder):
    archive = folder / "many.tar.gz"
    make_tar(archive, {f"{i}.png": b"12345" for i in range(20)})
    for limits in ({"max_entries": 19}, {"max_bytes": 99}):
        with pytest.raises(DataError, match="too many"):
            unpack(archive, folder / "x", **limits)
    assert untouched(folder, archive)
    unpack(archive, folder / "x", max_entries=20, max_bytes=100)
    assert len(list((folder / "x").iterdir())) == 20


def test_a_wrong_size_in_the_header(folder):
    archive = folder / "sparse.tar"
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 50
    archive.write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(DataError):
        unpack(archive, folder / "x")
    assert untouched(folder, archive)


@pytest.mark.parametrize("content", ["html", "empty", "cut", "nothing"])
def test_not_an_archive(folder, content):
    archive = folder / "LSUN.tar.gz"
    make_tar(archive, {"a.png": png() * 300} if content == "cut" else {})
    if content == "html":
        archive.write_text("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    elif content == "nothing":
        archive.write_bytes(b"")
    elif content == "cut":
        archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"LSUN\.tar\.gz"):
        open_dataset("lsun-crop", None, folder)
    assert untouched(folder, archive)
