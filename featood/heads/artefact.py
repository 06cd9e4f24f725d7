"""Fitted heads on disk: tensors in safetensors, options and provenance in JSON, a card to read. No pickle."""

from __future__ import annotations

__all__ = ["load_head", "save_head"]

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featood.errors import CacheCorrupt, DataError, UsageError
from featood.heads.registry import create_head

if TYPE_CHECKING:
    from featood.heads.base import Head

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
    import hashlib

    from safetensors.torch import save

    from featood.cache.manifest import library_versions
    from featood.files import atomic_write

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
    atomic_write(folder / "head.json", json.dumps(body, indent=1).encode())
    return folder


def load_head(path: str | Path) -> Head:
    """Load a head that :func:`save_head` wrote; nothing is refitted and no code in the file is run.

    Raises
    ------
    DataError
        When there is no head in the folder.
    CacheCorrupt
        When its files are damaged or do not belong together.
    UsageError
        When a newer featood wrote it.
    """
    import hashlib

    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(path)
    if not (folder / "head.json").is_file():
        raise DataError(
            f"{folder} holds no fitted head (no head.json); fit one with featood fit NAME --out {folder}"
        )
    try:
        body = json.loads((folder / "head.json").read_bytes())
        content = (folder / "head.safetensors").read_bytes()
        if body["schema"] > SCHEMA:
            raise UsageError(f"{folder} was written by a newer featood; upgrade with pip install -U featood")
        if hashlib.sha256(content).hexdigest() != body["tensors_sha256"]:
            raise CacheCorrupt(f"{folder}/head.safetensors does not match head.json; fit the head again")
        state = load(content)
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else NONFINITE.get(value, value)
            for name, value in body["options"].items()
        }
        head = create_head(body["head"], **options)
        head._adopt(state, body["meta"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
    ) as error:
        if isinstance(error, UsageError):
            raise
        raise CacheCorrupt(
            f"{folder} is damaged ({type(error).__name__}: {error}); fit the head again"
        ) from None
    return head


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
