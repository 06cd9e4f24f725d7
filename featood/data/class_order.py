"""The order of classes with which a network was trained, as given by the user."""

from __future__ import annotations

__all__ = ["ClassOrder", "apply_class_order", "read_class_order"]

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from featood.data.dialects import read_lines
from featood.data.folders import folder_labels
from featood.data.input_set import InputSet
from featood.data.scanning import some
from featood.errors import DataError, reading

Inputs = TypeVar("Inputs", bound=InputSet)
ClassOrder = Sequence[str] | str | os.PathLike[str]
_INDEX_FIRST = re.compile(r"(?P<index>\d+)[\s,;:]+(?P<name>\S.*)")
_INDEX_LAST = re.compile(r"(?P<name>.*\S)[\s,;:]+(?P<index>\d+)")


def read_class_order(order: ClassOrder) -> tuple[str, ...]:
    """Return the names of the classes in the order of their indices.

    Parameters
    ----------
    order : sequence of str, or path
        The names, or a file: lines of ``name``, ``index name`` or ``name index``, a JSON list of names, or a JSON
        object from name to index (``class_to_idx``, ``label2id``) or from index to name (``id2label``).

    Raises
    ------
    DataError
        If there is no such file, or names or indices are repeated or missing.
    """
    if not isinstance(order, str | os.PathLike):
        return _distinct(tuple(map(str, order)), "the order of the classes")
    path = Path(order).expanduser()
    lines = [line.strip() for line in read_lines(path)]
    lines = [line for line in lines if line]
    if lines and lines[0][0] in "[{":
        with reading(path):
            return _from_json(json.loads("\n".join(lines)), path)
    for pattern in (_INDEX_FIRST, _INDEX_LAST):
        matches = [pattern.fullmatch(line) for line in lines]
        pairs = [(match["name"].strip("\"'"), int(match["index"])) for match in matches if match]
        if pairs and len(pairs) == len(lines) == len({name for name, _ in pairs}):
            return _by_index(dict(pairs), path)
    return _distinct(tuple(lines), path)


def _from_json(value: Any, path: Path) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("class_to_idx", "label2id", "id2label") if key in value), value)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return _distinct(tuple(value), path)
    if isinstance(value, Mapping) and value:
        if all(type(index) is int for index in value.values()):
            return _by_index(value, path)
        if all(key.isdecimal() for key in value):  # Keras lists both WordNet id and name of a class
            names = {key: name[0] if isinstance(name, list) and name else name for key, name in value.items()}
            if all(isinstance(name, str) for name in names.values()):
                _distinct(tuple(names.values()), path)
                return _by_index({name: int(key) for key, name in names.items()}, path)
    raise DataError(
        f"{path} is neither a list of class names nor an object from names to indices or from indices to names"
    )


def _by_index(indices: Mapping[str, int], where: object) -> tuple[str, ...]:
    ordered = sorted(indices, key=lambda name: indices[name])
    found = [indices[name] for name in ordered]
    first = min(found)
    if first not in (0, 1) or found != list(range(first, first + len(found))):
        gap = next((i for i in range(len(found)) if found[i] != first + i), 0)
        raise DataError(
            f"{where}: indices must run from 0 without gaps; {found[gap]} ({ordered[gap]}) does not fit"
        )
    return tuple(ordered)


def _distinct(names: tuple[str, ...], where: object) -> tuple[str, ...]:
    if not names:
        raise DataError(f"{where} contains no classes")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where} contains the class {twice!r} twice")
    return names


def apply_class_order(images: Inputs, names: Sequence[str]) -> Inputs:
    """Renumber the classes of a set by a list of names.

    Named classes (class folders, even a single one, and names in a list or an array) are matched by name. If the set
    has only indices, or names that are just numbers, the list supplies the names.

    Parameters
    ----------
    images : InputSet
        The set.
    names : sequence of str
        Names of all classes in the order of their indices; may include classes that the set lacks.

    Returns
    -------
    InputSet
        Its ``classes`` are ``names``.

    Raises
    ------
    DataError
        If a class that has inputs is not among the names.
    """
    names = tuple(names)
    images = _labelled_by_folder(images, names)
    if images.labels is None:
        return images.with_notes("there are no labels, so the order of the classes has no effect")
    present = np.unique(images.labels[images.labels >= 0]).tolist()
    own = images.classes
    if not own or (_are_indices(own) and not set(own) & set(names)):
        if present and present[-1] >= len(names):
            raise DataError(
                f"{images.name} has label {present[-1]}, but the order of the classes has {len(names)} names"
            )
        return replace(images, classes=names)
    used = [own[index] for index in present if index < len(own)]
    rank = {name: index for index, name in enumerate(names)}
    notes = []
    first_words = {(name.split() or [""])[0]: index for index, name in enumerate(names)}
    if not set(used) <= set(rank) and len(first_words) == len(names) and set(used) <= set(first_words):
        rank = first_words
        notes.append("classes are matched by the first words of the given names")
    if unknown := [name for name in used if name not in rank]:
        raise DataError(f"{images.name}: not in the order of the classes ({names[0]}, ...): {some(unknown)}")
    if len(used) < len(names):
        notes.append(
            f"classes in the given order without images here: {len(names) - len(used)} of {len(names)}"
        )
    return images.with_classes(np.array([rank.get(name, -1) for name in own]), names).with_notes(*notes)


def _labelled_by_folder(images: Inputs, names: Sequence[str]) -> Inputs:
    """Use folders as classes if all their names are in the list, such as a single class folder."""
    folders = sorted({name.rpartition("/")[0].partition("/")[0] for name in images.ids})
    if images.labels is not None or images.root is None or not set(folders) <= set(names):
        return images
    notes = tuple(note for note in images.notes if not note.startswith("no labels"))
    labels = folder_labels(images.ids, folders)
    return replace(images, labels=labels, classes=tuple(folders), notes=notes)


def _are_indices(names: Sequence[str]) -> bool:
    """Whether names are the numbers 0 to C-1, or 1 to C, in this order."""
    if not all(name.isdecimal() for name in names):
        return False
    numbers = list(map(int, names))
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
