"""Sets of images: what is there, and reading it row by row."""

from __future__ import annotations

__all__ = [
    "DatasetEntry",
    "Decoding",
    "ImageSet",
    "apply_class_order",
    "available_splits",
    "dataset_key",
    "default_data_dir",
    "download",
    "get_entry",
    "likely_bits",
    "list_datasets",
    "list_suites",
    "open_dataset",
    "packed_set",
    "read_class_order",
    "suite",
]

from featood.data.images.class_order import apply_class_order, read_class_order
from featood.data.images.download import download
from featood.data.images.image_set import ImageSet, packed_set
from featood.data.images.naming import dataset_key
from featood.data.images.opening import available_splits, default_data_dir, open_dataset
from featood.data.images.reading import Decoding, likely_bits
from featood.data.images.registry import DatasetEntry, get_entry, list_datasets
from featood.data.images.suites import list_suites, suite
