"""What a loader gives, in whatever form people write it, as batches of inputs, labels and names."""

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
    """``[B, ...]``, as the network takes them."""
    labels: np.ndarray | None = None
    """``[B]``, of any type."""
    names: list[str] | None = None


def as_batches(data: Any, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Iterate over the batches of a loader.

    Parameters
    ----------
    data
        An iterable of batches, such as a ``DataLoader``; or a ``Dataset`` of single inputs, a tensor or an array
        ``[N, ...]``, which are cut into batches here. A batch is a tensor, a pair of inputs and labels (perhaps
        followed by names), or a mapping with keys such as ``pixel_values`` or ``image`` and ``label``.
    batch_size, workers : int
        Of what is cut into batches here.

    Raises
    ------
    DataError
        When a batch has another form.
    """
    if isinstance(data, np.ndarray | Tensor):
        data = TensorDataset(torch.as_tensor(data))
    indexed = hasattr(data, "__getitem__") and not isinstance(data, list | tuple | DataLoader)
    if isinstance(data, Dataset) or indexed:
        data = DataLoader(data, batch_size, num_workers=workers, generator=torch.Generator())
    if not isinstance(data, Iterable):
        raise DataError(f"a loader gives batches one after the other; {type(data).__name__} gives none")
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
                f"the images of this data set are no tensors ({error}); give it a transform that makes them"
            ) from None
        yield _unpacked(batch)


def _unpacked(batch: Any) -> Batch:
    if isinstance(batch, Mapping):
        inputs, labels, names = (
            next((batch[key] for key in keys if key in batch), None) for keys in (INPUTS, LABELS, NAMES)
        )
        if inputs is None:
            raise DataError(
                f"a batch has the keys {', '.join(map(str, batch))}, none of which is one of {', '.join(INPUTS)}"
            )
    elif isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch):
        inputs, labels, names = [*batch, None, None][:3]
    else:
        inputs, labels, names = batch, None, None
    if not isinstance(inputs, Tensor | np.ndarray) or not inputs.ndim:
        raise DataError(f"a batch of inputs is a tensor [B, ...], not {type(inputs).__name__}")
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
            f"labels are one class for each of {rows} inputs, not {values.dtype} of shape {list(values.shape)}; "
            "let the loader give inputs alone where there are none"
        )
    return values


def _names(names: Any, rows: int) -> list[str] | None:
    whole = isinstance(names, Sequence) and len(names) == rows and all(isinstance(n, str) for n in names)
    return list(names) if whole else None


def preprocessing(data: Any) -> str:
    """Describe how a loader prepares its inputs, as far as it says so; empty where it does not."""
    source = getattr(data, "dataset", data)
    while not hasattr(source, "transform") and hasattr(source, "dataset"):  # Subset and its like
        source = source.dataset
    found = getattr(source, "transform", None)
    return "" if found is None else ADDRESS.sub("", repr(found))


def loader_notes(data: Any) -> list[str]:
    """Return what a user should know of the rows that a loader gives."""
    notes, how = [], preprocessing(data)
    if isinstance(getattr(data, "sampler", None), RandomSampler):
        notes.append("the loader shuffles, so rows stand in the order in which it gave them")
    if getattr(data, "drop_last", False) and (lost := len(data.dataset) % data.batch_size):
        notes.append(f"the loader has drop_last=True: the last {lost} inputs are left out")
    if "Random" in how or "AutoAugment" in how:
        notes.append(
            "the loader's transform has random parts: these are features of augmented images, other ones each time"
        )
    return notes
