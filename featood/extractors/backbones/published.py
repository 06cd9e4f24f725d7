"""Published weights by name, ``NETWORK.TAG``, as backbones: the list, the files, and their checksums."""

from __future__ import annotations

__all__ = ["PublishedWeights", "build", "is_published", "list_published", "weights_folder"]

import dataclasses
import functools
import os
import shutil
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featood.data import get_entry
from featood.downloads import download_file, file_digest, has_checksum, is_address
from featood.errors import DataError, UsageError
from featood.extractors.backbones import nets, torchvision_models
from featood.extractors.backbones.backbone import Built, Request
from featood.extractors.transform import Transform
from featood.files import atomic_write, replacing
from featood.reporter import Reporter

LIST = Path(__file__).with_suffix(".toml")
VARIABLE = "FEATOOD_WEIGHTS"
PIN = ".sha256"
MAX_PACKED = 100
"""Largest ratio of the unpacked to the packed size of weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A file of weights that somebody published, and what is known about it."""

    name: str
    network: str
    """A network of featood, or ``tv:NAME``."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the network."""
    dataset: str
    """The data on which the network was trained, whose classes it has."""
    training: str = "cross-entropy"
    url: str
    file: str
    """Name of the file in a folder of weights; that in the URL, unless it is not distinctive."""
    member: str = ""
    """Path of the weights in the archive `file`."""
    input: Mapping[str, Any]
    """Fields of the :class:`~featood.extractors.transform.Transform`."""
    checksum: str = ""
    """``sha256:DIGITS`` as stated by the publisher, possibly only the first digits; empty if not stated."""
    checksum_from: str = ""
    """Where the checksum is stated."""
    accuracy: float | None = None
    """Accuracy on the test set in percent, as published."""
    accuracy_from: str = ""
    """Where the accuracy is stated."""
    measured: float | None = None
    """Accuracy with featood in percent, on 1,000 test images; None if the file has not been tried."""
    page: str
    """Where the weights are described."""
    licence: str
    """As stated on the page, for the weights or the code."""

    @property
    def transform(self) -> Transform:
        """The transform of the network's inputs."""
        return Transform(**self.input)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the logits, if known."""
        try:
            return get_entry(self.dataset).classes
        except UsageError:  # such as ImageNet in 32 x 32 pixels, whose classes have no published names
            return ()


@functools.cache
def list_published() -> Mapping[str, PublishedWeights]:
    """List all published weights by name.

    Each publisher is a table of the TOML file: entries below ``weights`` inherit the other keys of the table.
    """
    content = tomllib.loads(LIST.read_text("utf-8"))
    inputs = content.pop("inputs")
    found = {}
    for publisher in content.values():
        shared = {key: value for key, value in publisher.items() if key != "weights"}
        for name, own in publisher["weights"].items():
            facts = {"network": name.split(".")[0], **shared, **own}
            path = facts.pop("path", "")
            facts["url"] += path
            facts.setdefault("file", path.rpartition("/")[2])
            facts["input"] = inputs[facts["input"]]
            found[name] = PublishedWeights(name=name, **facts)
    return found


def is_published(name: str) -> bool:
    """Whether a name is that of published weights."""
    return name in list_published()


def build(name: str, request: Request) -> Built:
    """Build the network of published weights; a file given instead is read like the published one."""
    entry = list_published()[name]
    given = request.weights
    family, _, network = entry.network.rpartition(":")
    request = request._replace(
        weights=given or os.fspath(_find(entry, request.reporter)), options=entry.options,
        transform=entry.transform,
    )  # fmt: skip
    built = (torchvision_models if family else nets).build(network, request)
    classes = built.classes or entry.classes
    if given:
        return built._replace(
            classes=classes,
            notes=(f"network, inputs and classes are those of the published {name}", *built.notes),
        )
    about = [f"{entry.training} on {entry.dataset}, {entry.page}, licence {entry.licence or 'not stated'}"]
    if entry.accuracy is not None:
        about.append(f"published accuracy {entry.accuracy:.2f} % ({entry.accuracy_from})")
    if entry.measured is None:
        about.append("this file has not been tried with featood: compare the accuracy with the published one")
    return built._replace(
        resolved=built.resolved.partition("@")[0], weights=name.partition(".")[2], classes=classes, folder=name,
        notes=(*about, *built.notes),
    )  # fmt: skip


def weights_folder() -> Path:
    """Return the folder of published weights: FEATOOD_WEIGHTS if it is a folder, or ``~/.cache/featood/weights``."""
    given = os.environ.get(VARIABLE, "")
    if given and not is_address(given):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featood" / "weights"


def _find(entry: PublishedWeights, reporter: Reporter) -> Path:
    """Return the file of an entry, which is downloaded if it is not in the folder.

    Raises
    ------
    DataError
        If it can be neither found nor downloaded, or has another checksum.
    """
    folder = weights_folder()
    path = folder / entry.file
    for place in (folder, folder / path.stem) if entry.member else ():
        if (place / entry.member).is_file():
            return place / entry.member
    if not path.is_file():
        _download(entry, path, reporter)
    checksum, where = entry.checksum, f"stated by {entry.checksum_from}"
    pin = path.with_name(path.name + PIN)
    if not checksum and pin.is_file():
        checksum, where = (
            f"sha256:{pin.read_text('utf-8').split()[0]}",
            f"of the first download, in {pin.name}",
        )
    if not checksum:
        reporter.line(f"{path} has the SHA-256 {file_digest(path)}; none is published to compare it with")
    elif not has_checksum(path, checksum):
        raise DataError(
            f"{path} does not have the checksum {where}, {checksum}...; remove it to download it again"
        )
    return _unpacked(path, entry.member) if entry.member else path


def _download(entry: PublishedWeights, path: Path, reporter: Reporter) -> None:
    mirror = os.environ.get(VARIABLE, "")
    url = f"{mirror.rstrip('/')}/{entry.file}" if is_address(mirror) else entry.url
    reporter.line(f"downloading {url} to {path}")
    try:
        download_file(url, path, entry.checksum, reporter.task(path.name))
    except DataError as error:
        raise DataError(
            f"{entry.name} could not be downloaded ({error}): download {url} on a machine with network access and put "
            f"it into {path.parent} as {path.name}, or set {VARIABLE} to the folder or the base URL that has it"
        ) from error
    if not entry.checksum:
        digest = file_digest(path)
        atomic_write(path.with_name(path.name + PIN), f"{digest}  {path.name}\n".encode())


def _unpacked(archive: Path, member: str) -> Path:
    """Return the file of a member of a zip archive, beside the archive; its folder may be missing in `member`."""
    target = archive.parent / archive.stem / member
    try:
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
            found = [name for name in names if f"/{name}".endswith(f"/{member}")]
            if len(found) != 1:
                raise DataError(f"{archive} does not contain {member}; it has {', '.join(names[:8])}, ...")
            about = file.getinfo(found[0])
            if about.file_size > MAX_PACKED * max(about.compress_size, 1):
                raise DataError(f"{archive}: {found[0]} is refused: it unpacks to far more than weights")
            with file.open(about) as packed, replacing(target) as out:
                shutil.copyfileobj(packed, out)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{archive} is not a readable zip archive ({error}); remove it to download it again"
        ) from error
    return target
