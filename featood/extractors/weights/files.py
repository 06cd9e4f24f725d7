"""Reading files of weights without running code from them."""

from __future__ import annotations

__all__ = ["SUFFIXES", "Checkpoint", "read_checkpoint"]

import dataclasses
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from featood.errors import DataError, FeatoodError
from featood.extractors.weights.names import find_classes
from featood.extractors.weights.plain import Array, plain_types
from featood.extractors.weights.refusals import refusal

SUFFIXES = (".safetensors", ".pth.tar", ".pth", ".pt", ".th", ".tar", ".ckpt", ".bin")
_IN_FOLDERS = tuple(
    name + index for name in ("model.safetensors", "pytorch_model.bin") for index in ("", ".index.json")
)
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|callbacks|loops|rng", re.IGNORECASE)
_DEEPEST, _LONGEST, _MOST = 8, 1_000, 200_000
_MOST_PACKED = 100


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Content of a file of weights."""

    name: str
    """The path as given."""
    entry: str
    """The entry selected by ``FILE#ENTRY``, or empty."""
    tensors: Mapping[str, torch.Tensor]
    """All tensors by their full names, joined by dots: ``state_dict.module.conv1.weight``."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the logits, if the file has them."""


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the tensors of a checkpoint onto the CPU, without running code from the file.

    Parameters
    ----------
    path
        A file of safetensors or ``torch.save``, the index of a sharded one (``model.safetensors.index.json``), a zip
        archive of safetensors files, or a folder that contains one of these. ``PATH#ENTRY`` selects one entry by its
        full name: ``run.ckpt#state_dict``.

    Raises
    ------
    DataError
        If the file is missing, damaged or not a checkpoint, or can be unpickled only by running code.
    """
    given, entry = os.fspath(path), ""
    if not os.path.exists(given) and "#" in given:
        given, _, entry = given.rpartition("#")
    content, classes = _read(Path(given))
    tensors = dict(_flatten(content, given))
    if all(name.replace(".", "").isdigit() for name in tensors):
        raise DataError(f"{given} contains no state dict, as it has no tensors with names")
    if entry and not any(name.startswith(f"{entry}.") for name in tensors):
        entries = ", ".join(dict.fromkeys(name.partition(".")[0] for name in tensors))
        raise DataError(f"{given} has no entry '{entry}'; it has {entries[:300]}")
    return Checkpoint(os.fspath(path), entry, tensors, classes or find_classes(content))


def _read(path: Path) -> tuple[Any, tuple[str, ...]]:
    classes: tuple[str, ...] = ()
    if path.is_dir():
        if (path / "config.json").is_file():
            classes = find_classes(_json(path / "config.json"))
        path = _in_folder(path)
    if not path.is_file():
        raise DataError(f"no file of weights at {path}")
    try:
        return _content(path), classes
    except FeatoodError:
        raise
    except Exception as error:  # readers raise many types of errors for damaged files
        raise DataError(refusal(path, str(error))) from error


def _in_folder(folder: Path) -> Path:
    for name in _IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    found = [file for file in sorted(folder.iterdir()) if file.name.endswith(SUFFIXES) and file.is_file()]
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:8])
        raise DataError(
            f"{folder} contains several files of weights; give one of {names}"
            if found
            else f"no file of weights in the folder {folder}"
        )
    return found[0]


def _content(path: Path) -> Any:
    if path.name.endswith(".index.json"):
        return _shards(path)
    if path.suffix == ".safetensors" or _looks_like_safetensors(path):
        return safetensors.torch.load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".safetensors")]
            if members:
                return _members(archive, members)
    with torch.serialization.safe_globals(plain_types()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; unsupported ones raise an error
        return torch.load(path, map_location="cpu", weights_only=True)


def _looks_like_safetensors(path: Path) -> bool:
    """Whether the file begins with a possible length of a JSON header, and a brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None


def _shards(index: Path) -> dict[str, torch.Tensor]:
    """Read all files listed in an index, from its folder."""
    body = _json(index)
    places = body.get("weight_map") if isinstance(body, dict) else None
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise DataError(f"{index} has no weight_map, so it is not the index of a checkpoint")
    found: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(places.values()):
        file = index.parent / name
        if Path(name).name != name or not file.is_file():
            raise DataError(f"{index} lists {name}, which is not a file in its folder")
        part = _content(file)
        found.update(part if isinstance(part, Mapping) else {})
    if absent := next((name for name in places if name not in found), None):
        raise DataError(f"{index} lists {absent} in {places[absent]}, which does not contain it")
    return found


def _members(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for member in members:
        if member.file_size > _MOST_PACKED * max(member.compress_size, 1):
            raise DataError(
                f"{archive.filename}: {member.filename} is refused: it unpacks to far more than weights"
            )
        found.update(safetensors.torch.load(archive.read(member)))
    return found


def _flatten(content: Any, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors in nested mappings and lists, without those of optimisers and similar states."""
    visits = 0

    def walk(node: Any, name: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal visits
        visits += isinstance(node, torch.Tensor | Mapping | list | tuple)
        if visits > _MOST:  # entries may contain each other
            raise DataError(f"{path} has more than {_MOST:,} entries, so it is not a file of weights")
        if isinstance(node, Array) and node.value is not None and not isinstance(node.value, list):
            node = torch.from_numpy(node.value) if node.value.dtype.kind in "biufc" else None
        if isinstance(node, torch.Tensor) and name:
            yield name, node.detach()
        elif isinstance(node, Mapping | list | tuple) and depth < _DEEPEST:
            items = node.items() if isinstance(node, Mapping) else ((str(i), v) for i, v in enumerate(node))
            for key, value in items:
                nested = isinstance(value, Mapping | list | tuple)
                # names of networks are printable, and appear in messages
                named = isinstance(key, str) and key.isprintable() and len(key) < _LONGEST
                if named and not (nested and _NOT_WEIGHTS.search(key)):
                    yield from walk(value, f"{name}.{key}" if name else key, depth + 1)

    return walk(content, "", 0)
