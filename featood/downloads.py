"""Downloads over HTTP: resumable, with checksums. Only this module and ``remote`` open connections."""

from __future__ import annotations

__all__ = ["Progress", "download_file", "file_digest", "has_checksum", "is_address"]

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from featood.errors import DataError
from featood.files import lock, make_folder, remove, resuming, unlock

Progress = Callable[[int, int], None]
"""Called with the number of bytes done and their total, 0 if it is unknown."""
CHUNK = 1 << 20
TIMEOUT = 30
HEADERS = {"User-Agent": "featood", "Accept-Encoding": "identity"}


def is_address(text: str) -> bool:
    """Whether a text is an address that can be downloaded, ``http://...`` or ``https://...``."""
    return re.match(r"https?://[^/\s]", text, re.IGNORECASE) is not None


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the digest of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def has_checksum(path: Path, checksum: str) -> bool:
    """Whether a file has a checksum, ``sha256:DIGITS`` or ``md5:DIGITS``; the first digits are sufficient."""
    algorithm, _, digits = checksum.partition(":")
    return file_digest(path, algorithm).startswith(digits.lower())


def download_file(url: str, path: Path, checksum: str = "", progress: Progress | None = None) -> None:
    """Download a file; an interrupted download leaves ``PATH.part``, which the next call continues.

    Parameters
    ----------
    url : str
        An address for which :func:`is_address` holds.
    path : Path
        Where the file appears when it is complete and its checksum is right; replaced if it exists.
    checksum : str
        See :func:`has_checksum`; empty if it is unknown.
    progress : callable, optional
        See :data:`Progress`.

    Raises
    ------
    DataError
        If the address cannot be read, the connection ends early, the content is a web page or has another checksum,
        or another process is downloading the file.
    """
    if not is_address(url):
        raise DataError(f"{url} is not an address that begins with http:// or https://")
    make_folder(path.parent)
    place = path.with_name(f"{path.name}.lock")
    held = lock(place)
    if held is None:
        raise DataError(f"{path} is being downloaded by another process; wait until that has finished")
    try:
        with resuming(path) as file:
            total = _fetch(url, file, progress)
            file.flush()
            if 0 <= total != (done := file.tell()):
                raise DataError(
                    f"the connection ended after {done} of {total} bytes; run the same command again to continue"
                )
            part = Path(file.name)
            if checksum and not has_checksum(part, checksum):
                algorithm, _, digits = checksum.partition(":")
                found = file_digest(part, algorithm)
                file.truncate(0)
                raise DataError(
                    f"its {algorithm} is {found}, not {digits}...; the file has changed or is damaged"
                )
    finally:
        with suppress(OSError):  # Windows does not remove open files
            remove(place)
        unlock(held)


def _fetch(url: str, file: IO[bytes], progress: Progress | None) -> int:
    """Append what is missing in `file`, and return the total number of bytes, or -1 if the server does not state it."""
    have = file.tell()
    try:
        response = _open(url, have)
    except urllib.error.HTTPError as error:
        if not have or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise DataError(f"the server answers {error.code} {error.reason}") from error
        have, response = 0, _open(url)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise DataError("the server answers with a web page, not a file")
        start, total = _span(response)
        if start not in (0, have):
            raise DataError(f"the server sends the part from byte {start}, not from {have}")
        have = start  # 0 if the server does not resume
        file.truncate(have)
        for chunk in _chunks(response):
            file.write(chunk)
            have += len(chunk)
            if progress is not None:
                progress(have, max(total, 0))
    return total


def _open(url: str, start: int = 0) -> Any:
    headers = {**HEADERS, "Range": f"bytes={start}-"} if start else HEADERS
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(_reason(error)) from error


def _span(response: Any) -> tuple[int, int]:
    """Return the first byte of a response and the total number of bytes of the file, -1 if unknown."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status == http.client.PARTIAL_CONTENT and found:
        return int(found[1]), -1 if found[2] == "*" else int(found[2])
    return 0, int(response.headers.get("Content-Length", -1))


def _chunks(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{_reason(error)}; run the same command again to continue") from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[:160] or type(error).__name__
