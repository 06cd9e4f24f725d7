"""Fitted heads on disk: tensors in safetensors, options and provenance in JSON, and a README. No pickle."""

from __future__ import annotations

__all__ = ["SUFFIXES", "load_head", "migrate_head", "options_as_json", "options_from_json", "save_head"]

import dataclasses
import hashlib
import json
import math
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featood.errors import CacheCorrupt, DataError, Mismatch, MissingPackage, UsageError
from featood.heads.artefacts.calibrations import CALIBRATION_FILE, KINDS, pack_calibration, read_calibration
from featood.heads.base.fit import Fit, FitRecord, Saved
from featood.heads.registry import create_head, head_class, list_heads
from featood.objects import Location, ObjectPath
from featood.options import mistyped
from featood.records import check_record, is_newer, whole
from featood.remote import local_folder
from featood.sealed import digest, seal
from featood.storage import atomic_write, size_of

if TYPE_CHECKING:
    from featood.heads.base.fit import State
from featood.heads.base.head import Head

SCHEMA = 1
SUFFIXES = (".json", ".safetensors")
"""Suffixes of the files ``head.*`` of an artefact."""
AGAIN = "fit the head again"
META = {
    "fitted_on": str,
    "fingerprint": str,
    "recipe?": dict,
    "rows": whole(),
    "sizes": {str: whole()},
    "notes": [str],
    "fit?": {str: str},
    "fit_seconds?": (int, float),
    "training?": dict,
    "tuned?": {"on": str, "inputs?": str, "test_ood?": [str], ...: object},
    "members_tuned?": [{"on": str, "inputs?": str, "test_ood?": [str], ...: object}],
    ...: object,
}
HEAD = {
    "schema": whole(1),
    "head": str,
    "options": {str: object},
    "meta": dict,
    "versions": {str: str},
    "tensors_sha256": str,
    "calibration?": KINDS,
}
"""Fields of ``head.json``; for fitted heads also those of `META`."""


def save_head(head: Head, path: str | Location) -> Any:
    """Save a fitted head.

    Parameters
    ----------
    head : Head
        A fitted head; otherwise raises NotFitted.
    path : path
        A folder, created if it does not exist, or an ObjectPath in a cache. ``head.json`` is written last, so a
        folder with it is complete.

    Returns
    -------
    Path or ObjectPath
        The folder.
    """
    from safetensors.torch import save

    from featood.cache.manifest import library_versions

    folder = path if isinstance(path, ObjectPath) else Path(path)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in head.state.items()}
    content = save(tensors)
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "head": head.name,
        "options": options_as_json(head),
        "meta": head.record.as_json(),
        "versions": library_versions(),
        "tensors_sha256": hashlib.sha256(content).hexdigest(),
    }
    atomic_write(folder / "head.safetensors", content)
    if head.calibration is not None:
        scores, body["calibration"] = pack_calibration(head.calibration)
        atomic_write(folder / CALIBRATION_FILE, scores)
    atomic_write(folder / "README.md", _card_text(head).encode())
    atomic_write(folder / "head.json", json.dumps(seal(body), indent=1).encode())
    head.mark_saved(_saved(folder, body))
    return folder


def load_head(path: str | Location) -> Head:
    """Load a head saved by :func:`save_head`, without refitting it or running any code in the file.

    Parameters
    ----------
    path : path
        The folder, its address on the Hugging Face hub, ``hf://USER/NAME``, or an ObjectPath in a cache.

    Raises
    ------
    DataError
        If there is no head in the folder.
    CacheCorrupt
        If its files are damaged, do not match each other or lack a checksum.
    Mismatch
        If it was written by a version of featood with other heads or options.
    MissingPackage
        If it is a detector of a library that is not installed.
    """
    return _load(path if isinstance(path, ObjectPath) else local_folder(path))


def migrate_head(path: str | Location) -> bool:
    """Rewrite a head of an earlier version in the current format; return whether this was necessary.

    The tensors stay the same. The record gets the current names of options, and a checksum if it has none.

    Raises
    ------
    DataError, CacheCorrupt, Mismatch
        As :func:`load_head`, except that a record without a checksum is accepted.
    """
    folder = path if isinstance(path, ObjectPath) else Path(path)
    head = _load(folder, sealed=False)
    body = json.loads((folder / "head.json").read_bytes())
    if "sha256" in body and body["options"] == json.loads(json.dumps(options_as_json(head))):
        return False
    save_head(head, folder)
    return True


def _load(folder: Location, sealed: bool = True) -> Head:
    from safetensors import SafetensorError

    if size_of(folder / "head.json") is None:
        if size_of(folder / "head.safetensors") is not None:
            raise CacheCorrupt(
                f"{folder} has tensors but no head.json, so saving was interrupted; fit the head again"
            )
        raise DataError(
            f"{folder} holds no fitted head (no head.json); fit one with featood fit NAME --out {folder}"
        )
    try:
        body, state = _read(folder, sealed)
        head = _create(folder, body)
        if head.learns:
            check_record(body["meta"], META, folder / "head.json", AGAIN)
        if _of_earlier_version(type(head), body["options"]):
            from featood.heads.artefacts.earlier import earlier_state

            state = earlier_state(state)
        entry = body.get("calibration")
        calibration = None if entry is None else read_calibration(folder, entry)
        fit = Fit(
            state, FitRecord.from_json(body["meta"]), saved=_saved(folder, body), calibration=calibration
        )
        head.adopt(fit)
        _ = head.prepared  # fail now instead of at the first score if the tensors do not match the options
    except MissingPackage:
        raise
    except (*DAMAGE, SafetensorError) as error:
        reason = _short(f"{type(error).__name__}: {error}")
        raise CacheCorrupt(f"{folder} is damaged ({reason}); {AGAIN}") from error
    return head


def _saved(folder: Location, body: dict[str, Any]) -> Saved:
    meta = {key: value for key, value in body["meta"].items() if key != "fit_seconds"}
    record = {key: body[key] for key in ("head", "options")} | {"meta": meta}
    # via JSON, so that a head just saved and a loaded one have the same digest
    return Saved(folder, body["tensors_sha256"], digest(json.loads(json.dumps(record))))


DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FileNotFoundError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions that can occur when a damaged artefact is loaded."""


def _read(folder: Location, sealed: bool) -> tuple[dict[str, Any], State]:
    """Read both files and verify their checksums."""
    from safetensors.torch import load

    path = folder / "head.json"
    body = json.loads(path.read_bytes())
    if not isinstance(body, dict):
        raise TypeError(f"head.json is a {type(body).__name__}")
    if "sha256" in body and body.pop("sha256") != digest(body):
        raise CacheCorrupt(f"{path} does not match its own checksum; {AGAIN}")
    if sealed and "sha256" not in json.loads(path.read_bytes()):
        raise CacheCorrupt(
            f"{path} has no checksum: an older version of featood wrote it; run featood cache migrate to add one, or "
            f"{AGAIN}"
        )
    if is_newer(body.get("schema"), SCHEMA):
        raise Mismatch(f"{folder} was written by a newer featood; upgrade with pip install -U featood")
    check_record(body, HEAD, path, AGAIN)
    content = (folder / "head.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != body["tensors_sha256"]:
        raise CacheCorrupt(f"{folder}/head.safetensors does not match head.json; {AGAIN}")
    return body, load(content)


def _create(folder: Location, body: dict[str, Any]) -> Head:
    options = options_from_json(body["options"])
    try:
        cls = head_class(body["head"])
        if _of_earlier_version(cls, options):
            from featood.heads.artefacts.earlier import earlier_options

            options = earlier_options(cls, options)
        if wrong := mistyped(cls, options):
            raise CacheCorrupt(f"{folder}/head.json: options.{wrong} has the wrong type; {AGAIN}")
        return create_head(body["head"], **options)
    except MissingPackage:
        raise
    except UsageError as error:
        # cut the advice for users who typed a wrong name or option
        reason = _short(re.split(r" \(it has|; ", str(error))[0])
        writer = "another version of featood"
        if body["head"] not in list_heads():
            writer += ", or by a head of a package or file that is not imported (--head-file)"
        raise Mismatch(f"{folder} was written by {writer} ({reason}); {AGAIN}") from error


def _of_earlier_version(cls: type[Head], options: Mapping[str, Any]) -> bool:
    """Whether the options, or those of a composition's members, may have been written by an earlier version."""
    return cls.composes or set(options) != {field.name for field in dataclasses.fields(cls)}


def _short(text: str) -> str:
    """Shorten text from a file, so that a message fits one line."""
    return textwrap.shorten(text, 200, placeholder=" ...")


NONFINITE = {"inf": math.inf, "-inf": -math.inf}
"""Numbers that JSON cannot represent."""


def options_as_json(head: Head) -> dict[str, Any]:
    """Return a head's options as JSON values."""
    return {
        name: str(value) if isinstance(value, float) and math.isinf(value) else value
        for name, value in head.options.items()
    }


def options_from_json(options: dict[str, Any]) -> dict[str, Any]:
    """Return options from the JSON values of `options_as_json`."""
    return {
        name: tuple(value)
        if isinstance(value, list)
        else NONFINITE.get(value, value)
        if isinstance(value, str)
        else value
        for name, value in options.items()
    }


def _card_text(head: Head) -> str:
    card, record, calibration = head.card, head.record, head.calibration
    decides = []
    if calibration is not None:
        facts, limits = calibration.record, calibration.thresholds
        decides = [
            f"- Threshold: {', '.join(f'{limit:.6g}' for limit in limits)}, for a false-alarm rate of "
            f"{100 * facts['alarm_rate']:g} %; calibrated on {facts['set']} ({facts['rows']} rows)",
            f"- Probes, to test that features are computed as before: {', '.join(calibration.probes.ids)}",
        ]
    lines = [
        f"# {card.title} (`{card.name}`)",
        "",
        card.summary,
        "",
        *([f"- Caution: {card.caution}"] if card.caution else []),
        f"- Paper: {card.paper}, {card.year}. {card.url}",
        "- Score: higher = more out-of-distribution",
        f"- Fitted on: {record.fitted_on or 'nothing'} ({record.rows} rows)",
        f"- Backbone fingerprint: `{record.fingerprint or 'none'}`",
        "- Options: " + ", ".join(f"{name} = {value!r}" for name, value in head.options.items()),
        *decides,
        *[f"- Note: {note}" for note in record.notes],
        "",
        "```python",
        "import featood",
        'head = featood.load_head("this/folder")',
        "scores = head.score(features)",
        *(["out = head.predict(features).out"] if decides else []),
        "```",
        "",
    ]
    return "\n".join(lines)
