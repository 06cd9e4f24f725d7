"""Layouts of published sets of texts.

They keep every word; the loaders of pytorch-ood leave out stop words.
"""

from __future__ import annotations

__all__ = ["named_folders", "named_lines"]

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from featood.data.folders import read_folder
from featood.data.labels import set_labels
from featood.data.layouts import Loader
from featood.data.texts.files import decoded, folder_kind, lines_file, lines_of
from featood.data.texts.text_set import TextSet, text_set
from featood.errors import DataError

_POSTS = folder_kind((".txt", ""))
"""Files of the 20 newsgroups are numbers without an extension."""


def named_lines(
    folder: Path, split: str, files: Mapping[str, Sequence[str]], classes: Sequence[str] = ()
) -> Loader | None:
    """Layout of one file per split under any of its published names, one text per line.

    Parameters
    ----------
    folder : Path
        The folder.
    split : str
        The split.
    files : mapping of str to sequence of str
        Names of the file of each split.
    classes : sequence of str
        Names of the classes, with one of which, or its number, each line begins; empty for lines without a class.
    """
    found = next((folder / name for name in files.get(split, ()) if (folder / name).is_file()), None)
    if found is None:
        return None
    return partial(_labelled_lines, found, tuple(classes)) if classes else partial(lines_file, found)


def _labelled_lines(path: Path, classes: tuple[str, ...]) -> TextSet:
    text, notes = decoded(path)
    # files differ in what follows the class, and in the separators within its name
    names = {re.sub(r"\W+", " ", name): name for name in classes}
    longest = sorted(names, key=len, reverse=True)
    pattern = re.compile("|".join(re.escape(name).replace(r"\ ", r"\W+") for name in longest) + r"|\d+")
    lines = lines_of(text)
    filled = [row for row, line in enumerate(lines) if line]
    labels, texts = [], [""] * len(lines)
    for row in filled:
        line = lines[row]
        match = pattern.match(line)
        if match is None or re.match(r"\w", line[match.end() :]):
            raise DataError(
                f"{path}, line {row + 1}: it does not begin with one of the {len(classes)} classes"
            )
        label = re.sub(r"\W+", " ", match[0])
        labels.append(names.get(label, label))
        texts[row] = line[match.end() :].strip()
    numbers, found, more = set_labels(labels, len(labels), path, lambda: classes)
    if not found and numbers.min(initial=1) == 1 and numbers.max(initial=0) == len(classes):
        numbers, more = (
            numbers - 1,
            (*more, f"classes are numbered 1 to {len(classes)}: indices are these, minus one"),
        )
    known = np.full(len(lines), -1, np.int64)  # empty lines have no class, and are left out
    known[filled] = numbers
    return text_set(texts, known, classes=found, sources=(path,), notes=(*notes, *more))


def named_folders(folder: Path, split: str, folders: Mapping[str, str]) -> Loader | None:
    """Layout of one folder per split under its published name, with class folders of files."""
    inner = folder / folders.get(split, "-")
    return partial(read_folder, inner, _POSTS) if inner.is_dir() else None
