"""What comes in from elsewhere: files of many formats as named columns, labels of every kind as classes."""

from __future__ import annotations

__all__ = [
    "LABELS",
    "Columns",
    "Rows",
    "as_array",
    "class_labels",
    "features_of",
    "is_foreign",
    "listed",
    "read_columns",
    "split_folders",
]

from featood.readers.arrays import as_array, is_foreign
from featood.readers.class_labels import class_labels
from featood.readers.columns import Columns
from featood.readers.dataset_folders import split_folders
from featood.readers.inference import LABELS, Rows, features_of
from featood.readers.naming import listed
from featood.readers.registry import read_columns
