"""Conversion of the batches of any loader to inputs, labels and names."""

from __future__ import annotations

__all__ = ["Batch", "as_batches", "loader_notes", "preprocessing"]

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from featood.errors import DataError

INPUTS = ("pixel_values", "image", "images", "img", "inputs", "input", "x")
LABELS = ("labels", "label", "targets", "target", "y")
NAMES = ("ids", "id", "paths", "path", "filenames", "filename", "file")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Batch(NamedTuple):
    """One batch of a loader."""

    inputs: Tensor
    """``[B, ...]``, inputs of the network."""
    labels: np.ndarray | None = None
    """``[B]``, of any type."""
    names: list[str] | None = None


def as_batches(data: Any, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Iterate over the batches of a loader.

    Parameters
    ----------
    data
        An iterable of batches, such as a ``DataLoader``; or a ``Dataset`` of single inputs, a tensor or an array
        ``[N, ...]``, from which batches are made. A batch is a tensor, a pair of inputs and labels (optionally
        followed by names), or a mapping with keys such as ``pixel_values`` or ``image`` and ``label``.
    batch_size, workers : int
        Batch size and number of workers, if batches are made here.

    Raises
    ------
    DataError
        If a batch has another form.
    """
    if isinstance(data, np.ndarray | Tensor):
        data = TensorDataset(torch.as_tensor(data))
    indexed = hasattr(data, "__getitem__") and not isinstance(data, list | tuple | DataLoader)
    if isinstance(data, Dataset) or indexed:
        data = DataLoader(data, batch_size, num_workers=workers, generator=torch.Generator())
    if not isinstance(data, Iterable):
        raise DataError(f"a loader must be an iterable of batches, which {type(data).__name__} is not")
    batches = iter(data)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except TypeError as error:
            if "default_collate" not in str(error):
                raise
            raise DataError(
                f"the images of this data set are not tensors ({error}); give it a transform to tensors"
            ) from None
        yield _unpacked(batch)


def _unpacked(batch: Any) -> Batch:
    if isinstance(batch, Mapping):
        inputs, labels, names = (
            next((batch[key] for key in keys if key in batch), None) for keys in (INPUTS, LABELS, NAMES)
        )
        if inputs is None:
            raise DataError(
                f"a batch has the keys {', '.join(map(str, batch))}, but none of {', '.join(INPUTS)}"
            )
    elif isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch):
        inputs, labels, names = [*batch, None, None][:3]
    else:
        inputs, labels, names = batch, None, None
    if not isinstance(inputs, Tensor | np.ndarray) or not inputs.ndim:
        raise DataError(f"a batch of inputs must be a tensor [B, ...], not {type(inputs).__name__}")
    inputs = torch.as_tensor(inputs)
    return Batch(inputs, _labels(labels, len(inputs)), _names(names, len(inputs)))


def _labels(labels: Any, rows: int) -> np.ndarray | None:
    if labels is None:
        return None
    values = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.shape == (rows, 1):
        values = values[:, 0]
    if values.shape != (rows,) or values.dtype == object:
        raise DataError(
            f"labels must be one class for each of {rows} inputs, not {values.dtype} of shape {list(values.shape)}; "
            "return only inputs from the loader if there are no labels"
        )
    return values


def _names(names: Any, rows: int) -> list[str] | None:
    whole = isinstance(names, Sequence) and len(names) == rows and all(isinstance(n, str) for n in names)
    return list(names) if whole else None


def preprocessing(data: Any) -> str:
    """Describe the preprocessing of a loader by its transform; empty if it has none."""
    source = getattr(data, "dataset", data)
    while not hasattr(source, "transform") and hasattr(source, "dataset"):  # Subset and similar
        source = source.dataset
    found = getattr(source, "transform", None)
    return "" if found is None else ADDRESS.sub("", repr(found))


def loader_notes(data: Any) -> list[str]:
    """Return notes for the user about the rows of a loader."""
    notes, how = [], preprocessing(data)
    if isinstance(getattr(data, "sampler", None), RandomSampler):
        notes.append("the loader shuffles, so rows are in its random order")
    if getattr(data, "drop_last", False) and (lost := len(data.dataset) % data.batch_size):
        notes.append(f"the loader has drop_last=True: the last {lost} inputs are left out")
    if "Random" in how or "AutoAugment" in how:
        notes.append(
            "the loader's transform is random: these are features of augmented images, which differ between runs"
        )
    return notes
