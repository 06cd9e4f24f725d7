"""Fitted heads on disk: tensors in safetensors, options and provenance in JSON, a card to read. No pickle."""

from __future__ import annotations

__all__ = ["load_head", "save_head"]

import hashlib
import json
import math
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.files import atomic_write, digest, seal
from featood.heads.earlier import ADDED, earlier_state
from featood.heads.registry import create_head, head_class
from featood.heads.renamed import renamed

if TYPE_CHECKING:
    from featood.heads.base import Head, State

SCHEMA = 1


def save_head(head: Head, path: str | Path) -> Path:
    """Save a fitted head.

    Parameters
    ----------
    head : Head
        The head; unfitted raises NotFitted.
    path : path
        A folder, made where it does not exist. ``head.json`` is written last, so a folder with one is whole.

    Returns
    -------
    Path
        The folder.
    """
    from safetensors.torch import save

    from featood.cache.manifest import library_versions

    folder = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in head.state.items()}
    content = save(tensors)
    body = {
        "schema": SCHEMA,
        "head": head.name,
        "options": {name: _plain(value) for name, value in head.options.items()},
        "meta": head.meta,
        "versions": library_versions(),
        "tensors_sha256": hashlib.sha256(content).hexdigest(),
    }
    atomic_write(folder / "head.safetensors", content)
    atomic_write(folder / "README.md", _card_text(head).encode())
    atomic_write(folder / "head.json", json.dumps(seal(body), indent=1).encode())
    return folder


def load_head(path: str | Path) -> Head:
    """Load a head that :func:`save_head` wrote; nothing is refitted and no code in the file is run.

    Raises
    ------
    DataError
        When there is no head in the folder.
    CacheCorrupt
        When its files are damaged or do not belong together, or bear no checksum.
    Mismatch
        When another version of featood wrote it, whose heads or options are not those of this one.
    """
    from safetensors import SafetensorError

    folder = Path(path)
    if not (folder / "head.json").is_file():
        raise DataError(
            f"{folder} holds no fitted head (no head.json); fit one with featood fit NAME --out {folder}"
        )
    try:
        body, state = _read(folder)
        head = _create(folder, body)
        head._adopt(earlier_state(state), _checked_meta(head, body["meta"]))
        head._fitted()  # now rather than at the first score, because tensors of other options show only here
    except (*DAMAGE, SafetensorError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        raise CacheCorrupt(f"{folder} is damaged ({reason}); fit the head again") from error
    return head


DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a damaged artefact, and making a head of it, can end with."""


def _read(folder: Path) -> tuple[dict[str, Any], State]:
    """Read both files and hold them against their checksums."""
    from safetensors.torch import load

    body = json.loads((folder / "head.json").read_bytes())
    if not isinstance(body, dict):
        raise TypeError(f"head.json is a {type(body).__name__}")
    if "sha256" not in body:
        raise CacheCorrupt(
            f"{folder}/head.json has no checksum: an older version of featood wrote it; fit the head again"
        )
    if body.pop("sha256") != digest(body):
        raise CacheCorrupt(f"{folder}/head.json does not match its own checksum; fit the head again")
    content = (folder / "head.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != body["tensors_sha256"]:
        raise CacheCorrupt(f"{folder}/head.safetensors does not match head.json; fit the head again")
    return body, load(content)


def _create(folder: Path, body: dict[str, Any]) -> Head:
    if body["schema"] > SCHEMA:
        raise Mismatch(f"{folder} was written by a newer featood; upgrade with pip install -U featood")
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else NONFINITE.get(value, value)
        for name, value in body["options"].items()
    }
    try:
        name = body["head"]
        options = {**ADDED.get(name, {}), **renamed(head_class(name), options)}
        return create_head(name, **options)
    except UsageError as error:
        # what follows is advice to someone who types a name or an option
        reason = re.split(r" \(it has|; ", str(error))[0]
        raise Mismatch(
            f"{folder} was written by another version of featood ({reason}); fit the head again"
        ) from error


def _checked_meta(head: Head, meta: Any) -> dict[str, Any]:
    """Require what matching and scoring look up, which a head that was never fitted does without."""
    kinds = {"fitted_on": str, "fingerprint": str, "rows": int, "sizes": dict, "notes": list}
    if not isinstance(meta, dict):
        raise TypeError(f"meta is {meta!r}")
    for key, kind in kinds.items() if head.card.learns else ():
        if not isinstance(meta[key], kind):
            raise TypeError(f"meta has {meta[key]!r} for {key}")
    return meta


NONFINITE = {"inf": math.inf, "-inf": -math.inf}
"""Numbers that JSON has no word for."""


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _card_text(head: Head) -> str:
    card, meta = head.card, head.meta
    lines = [
        f"# {card.title} (`{card.name}`)",
        "",
        card.summary,
        "",
        *([f"- Caution: {card.caution}"] if card.caution else []),
        f"- Paper: {card.paper}, {card.year}. {card.url}",
        "- Score: higher = more out-of-distribution",
        f"- Fitted on: {meta.get('fitted_on', 'nothing')} ({meta.get('rows', 0)} rows)",
        f"- Backbone fingerprint: `{meta.get('fingerprint') or 'none'}`",
        "- Options: " + ", ".join(f"{name} = {value!r}" for name, value in head.options.items()),
        *[f"- Note: {note}" for note in meta.get("notes", [])],
        "",
        "```python",
        "import featood",
        'head = featood.load_head("this/folder")',
        "scores = head.score(features)",
        "```",
        "",
    ]
    return "\n".join(lines)
