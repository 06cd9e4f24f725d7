"""Labels of variants of a head, such as ``postnet@lr=0.001,seed=2``; repetitions differ only in the seed."""

from __future__ import annotations

__all__ = ["matching", "repeated_label", "variant_label"]

from collections.abc import Iterable, Mapping
from typing import Any

from featood.names import check_name, folder_name, safe_text, shortened

LONGEST = 120
"""Maximum number of characters of the options in a label; longer ones end in a digest."""


def variant_label(name: str, options: Mapping[str, Any]) -> str:
    """Format a name and options as a label; items of a list are joined by ``+``.

    Examples
    --------
    >>> variant_label("postnet", {"lr": 0.001, "seed": 2})
    'postnet@lr=0.001,seed=2'
    """

    def text(value: Any) -> str:
        return safe_text("+".join(map(str, value)) if isinstance(value, tuple) else str(value))

    parts = {option: f"{option}={text(value)}" for option, value in options.items()}
    seed = parts.pop("seed", "")  # kept out of the digest, as repetitions are recognised by it
    tail = ",".join(filter(None, (shortened(",".join(parts.values()), LONGEST), seed)))
    label = f"{name}@{tail}"
    check_name(folder_name(label), "a fitted head")
    return label


def repeated_label(label: str) -> str | None:
    """Return the label without its seed, or None if it has no seed.

    Examples
    --------
    >>> repeated_label("postnet@lr=0.001,seed=2"), repeated_label("postnet@seed=2"), repeated_label("postnet")
    ('postnet@lr=0.001', 'postnet', None)
    """
    name, _, text = label.partition("@")
    tail, bracket, which = text.partition("[")  # keeps the name of a score
    parts = tail.split(",")
    others = [part for part in parts if not part.startswith("seed=")]
    if len(others) == len(parts):
        return None
    return name + ("@" + ",".join(others) if others else "") + bracket + which


def matching(labels: Iterable[str], wanted: str) -> list[str]:
    """Return the label that equals `wanted`, otherwise all variants that have at least its options."""
    labels = list(labels)
    if wanted in labels:
        return [wanted]
    name, _, text = wanted.partition("@")
    options = set(filter(None, text.split(",")))
    return [
        label
        for label in labels
        if label.startswith(f"{name}@") and options <= set(label.partition("@")[2].split(","))
    ]
