"""Files and folders of remote stores: the Hugging Face hub, and everything that fsspec opens."""

from __future__ import annotations

__all__ = ["HubAddress", "hub_errors", "is_remote", "local_file", "local_folder"]

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from featood.downloads import download_file, is_address
from featood.errors import DataError, UsageError
from featood.files import temporary_folder

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

_folders: list[TemporaryDirectory[str]] = []  # removed at exit


class HubAddress(NamedTuple):
    """A repository of the Hugging Face hub, or a folder in it."""

    repo: str
    """``user/name``."""
    kind: str = "model"
    """``model`` or ``dataset``."""
    revision: str | None = None
    """Branch, tag or commit; by default the main branch."""
    folder: str = ""
    """Folder in the repository; by default all of it."""

    @classmethod
    def parse(cls, address: str) -> HubAddress:
        """Read ``hf://[datasets/]USER/NAME[@REVISION][/FOLDER]``.

        Raises
        ------
        UsageError
            If it is not such an address.
        """
        found = re.fullmatch(r"hf://(datasets/)?([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.+?))?/?", address)
        if found is None:
            raise UsageError(f"an address on the hub is hf://[datasets/]USER/NAME[@REVISION], not {address}")
        kind, repo, revision, folder = found.groups()
        return cls(repo, "dataset" if kind else "model", revision, folder or "")


def is_remote(text: str) -> bool:
    """Whether a text is an address, such as ``hf://...``, ``s3://...`` or ``https://...``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def local_folder(path: str | Path, to: Path | None = None) -> Path:
    """Return a local folder: `path` itself, or that of an address on the hub, which is downloaded.

    Parameters
    ----------
    path : str or Path
        A local path, or an address; see :meth:`HubAddress.parse`.
    to : Path, optional
        Where to download to; by default the hub's cache, whose files must not be changed.

    Raises
    ------
    UsageError
        If it is an address of another store.
    DataError
        If the repository or the network is not available.
    """
    if not is_remote(str(path)):
        return Path(path)
    address = HubAddress.parse(str(path))
    from huggingface_hub import snapshot_download

    only = f"{address.folder}/**" if address.folder else None
    with hub_errors(str(path)):
        place = snapshot_download(
            address.repo, repo_type=address.kind, revision=address.revision, allow_patterns=only, local_dir=to
        )
    return Path(place) / address.folder


def local_file(path: str) -> Path:
    """Return a local file: `path` itself, or a copy of the file at an address, which is kept until the program ends.

    Raises
    ------
    UsageError
        If a package for addresses of this kind is missing.
    DataError
        If the file is not available.
    """
    if not is_remote(path):
        return Path(path)
    _folders.append(temporary_folder())
    place = Path(_folders[-1].name) / path.partition("#")[0].rstrip("/").rpartition("/")[2]
    if is_address(path):
        download_file(path, place)
        return place
    import fsspec

    try:
        with hub_errors(path):
            fsspec.filesystem(path.partition("://")[0]).get_file(path, str(place))
    except (ImportError, ValueError) as error:  # an unknown kind of address, or its package is missing
        raise UsageError(f"{path} cannot be opened: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}") from None
    return place


@contextlib.contextmanager
def hub_errors(address: str) -> Iterator[None]:
    """Report errors of the hub as data that are missing, in one line."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except RepositoryNotFoundError:
        raise DataError(f"{address} does not exist, or is private: log in with hf auth login") from None
    except LocalEntryNotFoundError:
        raise DataError(f"{address} is not in the cache of the hub, and the hub cannot be reached") from None
    except (HfHubHTTPError, HFValidationError, ConnectionError) as error:
        raise DataError(f"{address}: {str(error).strip().splitlines()[0]}") from None
