"""The state of a monitor on disk: one file, replaced as a whole after each batch."""

from __future__ import annotations

__all__ = ["Alarm", "State", "load_state", "names_digest", "save_state"]

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.decisions import Capital
from featood.errors import CacheCorrupt, Mismatch
from featood.files import atomic_write, size_of
from featood.pipeline.monitoring.diagnosis import Window
from featood.records import check_record, is_newer, optional, whole
from featood.sealed import seal, unseal

SCHEMA = 1
FILE = "monitor.safetensors"
AGAIN = "delete the folder to begin again"
KINDS = {
    "schema": whole(1),
    "detector": str,
    "false_alarm": (int, float),
    "seed": whole(),
    "parts": {str: (int, float)},
    "rows": whole(), "batches": whole(), "unread": whole(), "out": whole(),
    "stream_rows": whole(), "stream_digest": str,
    "alarm": optional({"row": whole(), "id": str, "change": str, "since": whole()}),
    "ids": [str],
    "arrays_sha256": str,
}  # fmt: skip


class Alarm(NamedTuple):
    """The first row at which the capital reached 1 over the probability of a false alarm."""

    row: int
    """Number of the row, from 0; images that could not be read have none."""
    id: str
    """Its path or number."""
    change: str
    """How the scores have changed: ``higher``, ``lower``, ``wider`` or ``narrower``."""
    since: int
    """Number of the row at which the change most likely began."""


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """All that a monitor remembers."""

    detector: str
    """Digest of the detector's calibration and network."""
    false_alarm: float
    seed: int
    known: np.ndarray
    """Scores to rank the next rows among, ascending."""
    capital: Capital
    window: Window
    history: np.ndarray
    """Figures of the last batches ``[B, F]``."""
    batches: int = 0
    unread: int = 0
    """Images that could not be read."""
    out: int = 0
    """Rows above the threshold."""
    stream_rows: int = 0
    """Images since the stream began, read or not."""
    stream_digest: str = ""
    """Digest of their names."""
    alarm: Alarm | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.capital.rows


def save_state(state: State, folder: Path) -> str:
    """Write a state, and return the SHA-256 of the file."""
    from safetensors.numpy import save

    arrays = {"known": state.known, "staked": state.capital.staked, "history": state.history}
    arrays |= {
        f"window.{name}": values
        for name, values in state.window._asdict().items()
        if name != "ids" and values is not None
    }
    arrays = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    fields = (
        "detector",
        "false_alarm",
        "seed",
        "rows",
        "batches",
        "unread",
        "out",
        "stream_rows",
        "stream_digest",
    )
    body = {
        "schema": SCHEMA,
        **{name: getattr(state, name) for name in fields},
        "parts": dict(state.capital.parts),
        "alarm": state.alarm and state.alarm._asdict(),
        "ids": list(state.window.ids),
        "arrays_sha256": _digest(arrays),
    }
    content = save(arrays, {"record": json.dumps(seal(body))})
    atomic_write(folder / FILE, content)
    return hashlib.sha256(content).hexdigest()


def load_state(folder: Path) -> tuple[State, str] | None:
    """Read a state, with the SHA-256 of its file; None if there is none.

    Raises
    ------
    CacheCorrupt
        If the file is damaged.
    Mismatch
        If it was written by a newer version of featood.
    """
    path = folder / FILE
    if size_of(path) is None:
        return None
    content = path.read_bytes()
    arrays, text = _opened(content, path)
    body = unseal(text, path, AGAIN)
    if is_newer(body.get("schema"), SCHEMA):
        raise Mismatch(f"{path} was written by a newer version of featood; upgrade featood to read it")
    body = check_record(body, KINDS, path, AGAIN)
    if body["arrays_sha256"] != _digest(arrays):
        raise CacheCorrupt(f"{path} does not match its own checksum; {AGAIN}")
    columns = {name: arrays.get(f"window.{name}") for name in Window._fields[1:]}
    window = Window(body["ids"], **columns)  # type: ignore[arg-type]
    counts = ("detector", "false_alarm", "seed", "batches", "unread", "out", "stream_rows", "stream_digest")
    state = State(
        known=arrays["known"],
        capital=Capital(body["parts"], arrays["staked"], body["rows"]),
        window=window,
        history=arrays["history"],
        alarm=body["alarm"] and Alarm(**body["alarm"]),
        **{name: body[name] for name in counts},
    )
    return state, hashlib.sha256(content).hexdigest()


def _opened(content: bytes, path: Path) -> tuple[dict[str, np.ndarray], Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return arrays, json.loads(header["__metadata__"]["record"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        raise CacheCorrupt(f"{path} cannot be decoded; {AGAIN}") from None


def _digest(arrays: dict[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def names_digest(digest: str, names: Sequence[str]) -> str:
    """Return the digest of names that continue others with a digest."""
    for name in names:
        digest = hashlib.sha256(f"{digest} {name}".encode("utf-8", "surrogatepass")).hexdigest()
    return digest
