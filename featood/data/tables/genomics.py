"""Bacterial genomes of Ren et al. (2019): sequences of 250 bases with published splits."""

from __future__ import annotations

__all__ = ["GENOMICS_FILES", "load_genomics"]

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from featood.data.tables.reading import read_table
from featood.data.tables.table import Table
from featood.errors import DataError
from featood.readers import DNA, Tokens

INSIDE = {
    "train": "before_2011_in_tr",
    "val": "between_2011-2016_in_val",
    "test": "after_2016_in_test",
}
OUTSIDE = {"val": "between_2011-2016_ood_val", "test": "after_2016_ood_test"}
GENOMICS_FILES = tuple(f"{part}*" for part in (*INSIDE.values(), *OUTSIDE.values()))
"""Patterns of the folders or files of the splits."""
LABELS = "label_dict.json"


def load_genomics(folder: Path) -> tuple[Mapping[str, Table], Mapping[str, Table]]:
    """Read the splits, in either published layout.

    - From the authors: for each split a folder of TFRecord files, with the bases ACGT as numbers (``x``:
      ``"0 3 2 ..."``) and the class as a number (``y``), and ``label_dict.json`` with the numbers of all classes.
    - From TensorFlow Datasets: for each split a text file (``before_2011_in_tr.txt``) with the bases as letters
      (``seq``) and the class by name (``label``), separated by tabs.

    These are the layouts that the code of the authors and of TensorFlow Datasets reads; untried on the published files.

    Parameters
    ----------
    folder : Path
        The folder that contains the splits.

    Returns
    -------
    inside, outside : mapping of str to Table
        In-distribution rows of train, val and test, and out-of-distribution rows of val and test.

    Raises
    ------
    DataError
        If a file is damaged, or a sequence or a class is not valid.

    References
    ----------
    Ren et al., Likelihood Ratios for Out-of-Distribution Detection, NeurIPS 2019.
    """
    inside = {split: _split(folder, part) for split, part in INSIDE.items()}
    train = inside["train"]
    inside = {split: table.with_classes(train.classes) for split, table in inside.items()}
    outside = {split: _split(folder, part, len(train.columns)).outside() for split, part in OUTSIDE.items()}
    return inside, outside


def _split(folder: Path, part: str, length: int = 0) -> Table:
    like = tuple(map(str, range(length)))
    text = folder / f"{part}.txt"
    if text.is_file():
        return read_table(text, "label", like=like, tokens=Tokens("seq", DNA))
    numbers = "".join(map(str, range(len(DNA))))
    table = read_table(folder / part, "y", like=like, tokens=Tokens("x", numbers))
    names = _class_names(folder / LABELS)
    if missing := [number for number in table.classes if number not in names]:
        raise DataError(
            f"{folder / LABELS} has no name of the class {missing[0]}, which {folder / part} contains"
        )
    return replace(table, classes=tuple(names[number] for number in table.classes), alphabet=DNA)


def _class_names(path: Path) -> Mapping[str, str]:
    """Return the names of the classes by their numbers."""
    try:
        numbers = json.loads(path.read_bytes())
        return {str(int(number)): str(name) for name, number in numbers.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"{path} with the numbers of the classes is missing or damaged; copy it again"
        ) from None
