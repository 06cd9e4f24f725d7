import hashlib
import random

import pytest
from file_server import serving

from featood.downloads import download_file, has_checksum, is_address
from featood.errors import DataError
from featood.files import lock, unlock

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def site():
    with serving() as site:
        site.files["/w.bin"] = CONTENT
        yield site


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_with_progress(site, tmp_path):
    seen = []
    path = tmp_path / "new" / "w.bin"
    download_file(f"{site.address}/w.bin", path, SHA256, lambda *done: seen.append(done))
    assert path.read_bytes() == CONTENT and names(path.parent) == ["w.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_an_interrupted_download_continues(site, tmp_path):
    path = tmp_path / "w.bin"
    site.cut = 1_000_000
    with pytest.raises(DataError, match="run the same command again to continue"):
        download_file(f"{site.address}/w.bin", path, SHA256)
    assert names(tmp_path) == ["w.bin.part"]
    have = (tmp_path / "w.bin.part").stat().st_size
    assert have == 1_000_000
    site.cut = None
    download_file(f"{site.address}/w.bin", path, SHA256)
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["w.bin"]
    assert site.requests == [("/w.bin", None), ("/w.bin", f"bytes={have}-")]


@pytest.mark.parametrize("part", [CONTENT[:7], CONTENT, CONTENT + b"more", b"other content"])
def test_a_server_that_does_not_resume_sends_the_whole_file(site, tmp_path, part):
    (tmp_path / "w.bin.part").write_bytes(part)
    site.ranges = False
    download_file(f"{site.address}/w.bin", tmp_path / "w.bin", SHA256)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_downloaded_again(site, tmp_path):
    (tmp_path / "w.bin.part").write_bytes(CONTENT + b"x")
    download_file(f"{site.address}/w.bin", tmp_path / "w.bin", SHA256)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_an_unknown_length_is_accepted(site, tmp_path):
    site.length = False
    download_file(f"{site.address}/w.bin", tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_no_file(site, tmp_path):
    for checksum in ("sha256:0000", "md5:" + "0" * 32):
        with pytest.raises(DataError, match="has changed or is damaged"):
            download_file(f"{site.address}/w.bin", tmp_path / "w.bin", checksum)
        assert names(tmp_path) == []
    # a part of another file
    (tmp_path / "w.bin.part").write_bytes(b"?" * 100)
    with pytest.raises(DataError, match="damaged"):
        download_file(f"{site.address}/w.bin", tmp_path / "w.bin", SHA256)
    download_file(f"{site.address}/w.bin", tmp_path / "w.bin", SHA256)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_other_answers_are_errors_of_one_line(site, tmp_path):
    site.moved["/local"] = "file:///etc/passwd"
    for path, kind, says in (
        ("/absent", "", "404"),
        ("/w.bin", "text/html; charset=utf-8", "web page"),
        ("/local", "", "not allowed|302"),
    ):
        site.kind = kind or "application/zip"
        with pytest.raises(DataError, match=says) as caught:
            download_file(site.address + path, tmp_path / "w.bin")
        assert "\n" not in str(caught.value)
        assert names(tmp_path) == []
    with pytest.raises(DataError):
        download_file("http://127.0.0.1:9/x", tmp_path / "w.bin")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/x", "/etc/passwd", "https://", "x.bin"]
)
def test_only_addresses_of_the_web(url, tmp_path):
    assert not is_address(url)
    with pytest.raises(DataError, match="http"):
        download_file(url, tmp_path / "w.bin")
    assert names(tmp_path) == []


def test_two_processes_do_not_write_one_file(site, tmp_path):
    held = lock(tmp_path / "w.bin.lock")
    with pytest.raises(DataError, match="another process"):
        download_file(f"{site.address}/w.bin", tmp_path / "w.bin")
    unlock(held)
    assert site.requests == []


def test_checksums(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert has_checksum(tmp_path / "x", f"sha256:{digest}") and has_checksum(
        tmp_path / "x", f"sha256:{digest[:8].upper()}"
    )
    assert has_checksum(tmp_path / "x", f"md5:{hashlib.md5(b'abc').hexdigest()}")
    assert not has_checksum(tmp_path / "x", f"sha256:{digest[1:]}")
