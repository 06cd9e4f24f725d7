"""Class names in checkpoints and configurations of models."""

from __future__ import annotations

__all__ = ["find_classes"]

from collections.abc import Mapping
from typing import Any

from featood.extractors.weights.plain import Array

_KEYS = ("class_to_idx", "idx_to_class", "classes", "class_names", "label_names", "id2label", "label2id")


def find_classes(content: Any, depth: int = 2) -> tuple[str, ...]:
    """Return the names of the classes in the order of the logits, or an empty tuple.

    Parameters
    ----------
    content : mapping
        Content of a file. Names are searched under ``class_to_idx``, ``classes``, ``class_names`` and similar keys, as
        a list of strings or a mapping from or to the numbers 0, 1, ..., K-1.
    depth : int
        Number of levels to search.
    """
    if not isinstance(content, Mapping):
        return ()
    lower = {key.lower(): value for key, value in content.items() if isinstance(key, str)}
    for key in _KEYS:
        if names := _in_order(lower.get(key)):
            return names
    below = (find_classes(value, depth - 1) for value in lower.values() if depth)
    return next((names for names in below if names), ())


def _in_order(value: Any) -> tuple[str, ...]:
    if isinstance(value, Array):
        value = None if value.value is None else list(value.value)
    if isinstance(value, Mapping):
        pairs = value.items()
        if all(isinstance(number, int) for _, number in pairs):
            by_number = {number: name for name, number in pairs}
        elif all(str(number).isdigit() for number, _ in pairs):
            by_number = {int(number): name for number, name in pairs}
        else:
            return ()
        value = [by_number.get(number) for number in range(len(pairs))]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        return ()
    return tuple(str(name) for name in value)
