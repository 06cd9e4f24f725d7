"""A detector on disk: one folder that needs no cache."""

from __future__ import annotations

__all__ = ["RECORD", "load_detector", "load_record", "save_detector", "stored_weights"]

import dataclasses
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.cache.manifest import Manifest
from featood.data.images.reading import Decoding, read_image
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.extractors.backbones import CODE
from featood.extractors.backbones.published import list_published
from featood.extractors.trainer import is_extractor
from featood.files import create, make_folder, scratch_folder, size_of
from featood.heads.artefacts.artefact import load_head, save_head
from featood.pipeline.detectors.golden import Golden
from featood.pipeline.detectors.neighbours import TrainingRows
from featood.pipeline.detectors.network import ImageNetwork
from featood.pipeline.detectors.reference import Reference
from featood.records import check_record, is_newer, one_of, optional, whole
from featood.sealed import read_json, write_json

if TYPE_CHECKING:
    from featood.pipeline.detectors.detector import Detector

SCHEMA = 1
RECORD, GOLDEN = "detector.json", "golden.safetensors"
REFERENCE, TRAINING = "reference.safetensors", "training.safetensors"
NETWORK, TRAINED = "network.safetensors", "network"
STORED = (NETWORK, TRAINED, "")
LICENCES = ("Apache-2.0", "BSD-3-Clause", "MIT")
"""Licences of published weights that allow copies."""
AGAIN = "make the detector again with featood threshold"
KINDS = {
    "schema": whole(1),
    "head": str,
    "network": one_of(STORED),
    "golden": {"images": whole(), "scale": (int, float)},
    "reference?": optional({"column": str, "ids": [str]}),
    "training?": optional({"column": str, "ids": [str]}),
    "versions": {str: str},
    "sha256_of": {str: str},
}  # fmt: skip


def save_detector(detector: Detector, folder: Path) -> Path:
    """Write a detector to a new folder.

    The weights of the network are stored if they came from a file or from ``featood train``, or were published with a
    licence that allows it. Other published weights are named, and code has to be named again.

    Raises
    ------
    UsageError
        If the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists; choose another folder by --out, or delete it")
    with scratch_folder(folder) as place:
        save_head(detector.head, place / "head")
        detector.network.origin.save(place)
        contents: dict[str, bytes] = {}
        golden = detector.golden
        if golden is not None:
            contents[GOLDEN] = _tensors(
                {"inputs": golden.inputs, "scores": golden.scores}
                | {f"column.{name}": values for name, values in golden.columns.items()}
            )
            contents |= {f"golden-{number}.png": _png(image) for number, image in enumerate(golden.images)}
        reference = detector.reference
        if reference is not None:
            contents[REFERENCE] = _tensors(
                {
                    "features": reference.features,
                    "scores": reference.scores,
                    "classes": reference.classes,
                }
            )
        training = detector.training
        if training is not None:
            contents[TRAINING] = _tensors({"features": training.features, "labels": training.labels})
        stored = _network_files(detector.network)
        contents |= stored
        make_folder(place / TRAINED)
        for name, content in contents.items():
            with create(place / name) as file:
                file.write(content)
        body = {
            "schema": SCHEMA,
            "head": detector.head.name,
            "network": next(iter(stored), "").partition("/")[0],
            "golden": {
                "images": len(golden.images) if golden else 0,
                "scale": float(golden.scale) if golden else 0.0,
            },
            "reference": reference and {"column": reference.column, "ids": list(reference.ids)},
            "training": training and {"column": training.column, "ids": list(training.ids)},
            "versions": dict(detector.versions),
            "sha256_of": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        }
        write_json(place / RECORD, body)
    return folder


def load_detector(folder: Path, code: Sequence[Any] = (), device: str = "auto") -> Detector:
    """Read a detector; no code in the folder is run.

    Raises
    ------
    DataError
        If there is none.
    CacheCorrupt
        If a file is missing or damaged.
    Mismatch
        If it was written by a newer version of featood, or its network has changed.
    """
    from featood.pipeline.detectors.detector import Detector

    body = load_record(folder)
    if outside := [
        name for name in body["sha256_of"] if Path(name).is_absolute() or ".." in Path(name).parts
    ]:
        raise CacheCorrupt(f"{folder / RECORD} names the file {outside[0]!r} outside of the folder; {AGAIN}")
    contents = {name: _verified(folder / name, sha256) for name, sha256 in body["sha256_of"].items()}
    origin = Manifest.load(folder)
    if body["network"]:
        key = "name" if body["network"] == TRAINED else "weights_file"
        origin = dataclasses.replace(origin, run={**origin.run, key: str(folder / body["network"])})
    golden = None
    if body["golden"]["images"]:
        found = _arrays(contents, GOLDEN, folder)
        images = [
            read_image(folder / f"golden-{number}.png", Decoding())
            for number in range(body["golden"]["images"])
        ]
        columns = {
            name.removeprefix("column."): values
            for name, values in found.items()
            if name.startswith("column.")
        }
        golden = Golden(images, found["inputs"], columns, found["scores"], body["golden"]["scale"])
    reference = None
    if about := body.get("reference"):
        found = _arrays(contents, REFERENCE, folder)
        reference = Reference(
            about["column"], found["features"], found["scores"], found.get("classes"), about["ids"]
        )
    training = None
    if about := body.get("training"):
        found = _arrays(contents, TRAINING, folder)
        training = TrainingRows(about["column"], found["features"], found.get("labels"), about["ids"])
    network = ImageNetwork(origin, code, device)
    head = load_head(folder / "head")
    if head.calibration is None:
        raise CacheCorrupt(f"{folder / 'head'} has no threshold; {AGAIN}")
    return Detector(head, network, golden, body["versions"], reference, training)


def load_record(folder: Path) -> dict[str, Any]:
    """Read the record of a detector.

    Raises
    ------
    DataError, CacheCorrupt, Mismatch
        As :func:`load_detector`.
    """
    if size_of(folder / RECORD) is None:
        raise DataError(f"{folder} contains no detector; make one with featood threshold HEAD --out {folder}")
    body = read_json(folder / RECORD, AGAIN)
    if is_newer(body.get("schema"), SCHEMA):
        raise Mismatch(f"{folder} was written by a newer version of featood; upgrade featood to read it")
    return check_record(body, KINDS, folder / RECORD, AGAIN)


def stored_weights(network: ImageNetwork) -> tuple[bool, str]:
    """Return whether the weights of a network are stored with a detector, and a line that says so."""
    run = network.origin.run
    name = str(run.get("name", ""))
    published = list_published().get(name)
    if is_extractor(Path(name.removesuffix("#last"))) or run.get("weights_file"):
        return True, "the detector contains the weights of its network"
    if published is not None and published.licence in LICENCES:
        return True, f"the detector contains the weights {name}, whose licence is {published.licence}"
    if name.startswith(CODE):
        return False, f"the network is code, which is to be named again: --code {name}"
    why = "" if published is None else f", whose licence is {published.licence or 'not stated'}"
    return False, f"the detector does not contain the weights {name}{why}; they are found by that name"


def _network_files(network: ImageNetwork) -> dict[str, bytes]:
    """Return the files of the network's weights by name, if they are to be stored."""
    trained = Path(str(network.origin.run.get("name", "")).removesuffix("#last"))
    if is_extractor(trained):
        return {
            f"{TRAINED}/{path.name}": path.read_bytes()
            for path in sorted(trained.glob("*.*"))
            if path.is_file()
        }
    if not stored_weights(network)[0]:
        return {}
    from safetensors.torch import save

    state = network.backbone.module.state_dict()
    return {NETWORK: save({name: value.detach().cpu().contiguous().clone() for name, value in state.items()})}


def _tensors(arrays: Mapping[str, np.ndarray | None]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(values) for name, values in arrays.items() if values is not None})


def _arrays(contents: Mapping[str, bytes], name: str, folder: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if name not in contents:
        raise CacheCorrupt(f"{folder / RECORD} does not list {name}; {AGAIN}")
    try:
        return load(contents[name])
    except SafetensorError as error:
        raise CacheCorrupt(f"{folder / name} cannot be decoded ({error}); {AGAIN}") from None


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def _verified(path: Path, sha256: str) -> bytes:
    if size_of(path) is None:
        raise CacheCorrupt(f"{path} is missing; {AGAIN}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CacheCorrupt(f"{path} does not match its checksum; {AGAIN}")
    return content
