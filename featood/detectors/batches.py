"""Batches of a loader: inputs of any form with labels, and what a model computes from them.

Inputs are a tensor, or a mapping, tuple or list of inputs, such as the mappings of tensors that tokenizers return.
"""

from __future__ import annotations

__all__ = [
    "Model", "apply_model", "arguments", "count", "each", "extract_feature_avg", "extract_features", "known_batches",
    "move", "select_output", "split", "unpack",
]  # fmt: skip

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import compress
from operator import itemgetter
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from featood.detectors.utils import TensorBuffer, is_known
from featood.errors import DataError, UsageError
from featood.extractors.batches import LABELS
from featood.extractors.outputs import class_outputs

Model: TypeAlias = Callable[..., Any]
"""A module, one of its methods, or any function of inputs."""


def apply_model(model: Model, inputs: Any) -> Tensor:
    """Return the outputs ``[B, ...]`` of a model for inputs.

    Raises
    ------
    UsageError
        If the outputs cannot be identified.
    """
    args, kwargs = arguments(model, inputs)
    return select_output(model(*args, **kwargs))


def arguments(model: Model, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return how to pass inputs to a model: a mapping as keyword arguments, if it has such parameters.

    Raises
    ------
    UsageError
        If it has only some of them, or needs others.
    """
    if not isinstance(inputs, Mapping):
        return (inputs,), {}
    try:
        signature = inspect.signature(model.forward if isinstance(model, nn.Module) else model)
    except ValueError:  # a function of C without a signature
        return (inputs,), {}
    try:
        signature.bind(**inputs)
    except TypeError:
        if signature.parameters.keys() & inputs.keys():
            raise UsageError(
                f"inputs {', '.join(inputs)} do not fit the model's parameters {signature}"
            ) from None
        return (inputs,), {}
    return (), dict(inputs)


def select_output(outputs: Any) -> Tensor:
    """Return a tensor as it is; otherwise what :func:`featood.extract` takes: the ``logits``, or the only matrix."""
    return outputs if isinstance(outputs, Tensor) else class_outputs(outputs)


def each(inputs: Any, function: Callable[[Tensor], Any]) -> Any:
    """Apply a function to every tensor of inputs."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {name: each(value, function) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [each(value, function) for value in inputs]
    return inputs


def move(inputs: Any, device: str | torch.device | None) -> Any:
    """Return inputs on a device, where they have a method `to`; None leaves them where they are."""
    if device is None:
        return inputs
    if hasattr(inputs, "to"):  # tensors, packed sequences, batches of tokenizers
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {name: move(value, device) for name, value in inputs.items()}
    return [move(value, device) for value in inputs] if isinstance(inputs, list | tuple) else inputs


def count(inputs: Any) -> int:
    """Return the number of rows of the first tensor of inputs."""
    rows: list[int] = []
    each(inputs, lambda values: rows.append(len(values)))
    if not rows:
        raise DataError(f"inputs of a tensor, or several, are needed here, not {type(inputs).__name__}")
    return rows[0]


def split(inputs: Any, size: int) -> Iterator[Any]:
    """Iterate over parts of at most so many rows."""
    for start in range(0, count(inputs), size):
        yield each(inputs, itemgetter(slice(start, start + size)))


def unpack(batch: Any) -> tuple[Any, Tensor]:
    """Return inputs and labels ``[B]`` of a batch: of a pair, or of a mapping with a key such as ``labels``.

    Raises
    ------
    DataError
        If there are no labels.
    """
    if isinstance(batch, Mapping):
        key = next((name for name in LABELS if name in batch), None)
        if key is None:
            raise DataError(
                f"a batch has the keys {', '.join(batch)}, but no labels: none of {', '.join(LABELS)}"
            )
        return {name: value for name, value in batch.items() if name != key}, torch.as_tensor(batch[key])
    if isinstance(batch, Tensor) or len(batch) < 2:
        raise DataError("a batch is a pair of inputs and labels, or a mapping with a key such as labels")
    return batch[0], torch.as_tensor(batch[1])


def _rows(inputs: Any, kept: Tensor) -> Any:
    """Return the rows of inputs that are kept ``[B]``.

    A list is one of rows, such as texts, unless it has tensors of B rows each.
    """
    if isinstance(inputs, Tensor):
        return inputs[kept.to(inputs.device)]
    if isinstance(inputs, Mapping):
        return {name: _rows(value, kept) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        parts = all(isinstance(value, Tensor) and value.shape[:1] == kept.shape for value in inputs)
        return [_rows(value, kept) for value in inputs] if parts else list(compress(inputs, kept.tolist()))
    return inputs


def known_batches(
    data_loader: Iterable[Any], device: str | torch.device | None = None
) -> Iterator[tuple[Any, Tensor]]:
    """Iterate over the known inputs of a loader, on a device, and their labels.

    Raises
    ------
    DataError
        If there are none, or a batch has no labels.
    """
    found = False
    for x, y in map(unpack, data_loader):
        known = is_known(y)
        if bool(known.any()):
            found = True
            yield move(x if bool(known.all()) else _rows(x, known), device), y[known]
    if not found:
        raise DataError("the loader has no known inputs (labels of at least 0)")


def extract_features(
    data_loader: Iterable[Any], model: Model, device: str | torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Return outputs ``[N, D]`` and labels ``[N]`` of the known inputs of a loader, on the CPU.

    Parameters
    ----------
    data_loader : iterable
        Batches: pairs of inputs and labels, or mappings with a key such as ``labels``. Inputs with a negative label are
        skipped.
    model : callable
        Inputs to outputs, which are flattened; it is used in the mode it is in.
    device : str, optional
        Device of the inputs.

    Raises
    ------
    DataError
        If there are no known inputs.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import extract_features
    >>> loader = [(torch.rand(4, 8), torch.tensor([0, 1, 2, -1]))]
    >>> extract_features(loader, torch.nn.Linear(8, 3))[0].shape
    torch.Size([3, 3])
    """
    buffer = TensorBuffer()
    with torch.no_grad():
        for x, y in known_batches(data_loader, device):
            buffer.append("z", apply_model(model, x).flatten(1)).append("y", y)
    return buffer["z"], buffer["y"]


def extract_feature_avg(
    data_loader: Iterable[Any], model: Model, device: str | torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Return :func:`extract_features` of outputs ``[B, C, H, W]`` that are averaged over positions."""
    return extract_features(data_loader, lambda x: apply_model(model, x).flatten(2).mean(2), device)
