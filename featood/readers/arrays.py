"""Conversion of lists, Arrow columns and data frames to NumPy arrays."""

from __future__ import annotations

__all__ = ["as_array", "is_foreign", "tensor_array", "vectors"]

from typing import TYPE_CHECKING, Any

import numpy as np

from featood.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


def is_foreign(values: Any) -> bool:
    """Whether values are a list, an Arrow column or a data frame, rather than an array, tensor or stored column."""
    return isinstance(values, list | tuple) or hasattr(values, "to_pylist") or hasattr(values, "to_numpy")


def as_array(values: Any, name: str = "values") -> Any:
    """Convert lists, Arrow columns and data frames to NumPy arrays; arrays, tensors and stored columns stay unchanged.

    Parameters
    ----------
    values : array, list, Arrow column, series or data frame
        ``[N]`` or ``[N, D]``; rows may be lists or arrays.
    name : str
        Name used in errors.

    Raises
    ------
    DataError
        If rows differ in length, or values are not numbers.
    """
    if hasattr(values, "to_pylist"):
        stacked = vectors(values)
        return np.asarray(values) if stacked is None else stacked
    try:
        array = np.asarray(values) if is_foreign(values) else values
        if isinstance(array, np.ndarray) and array.dtype == object and array.size:
            if hasattr(array.flat[0], "__len__") and not isinstance(array.flat[0], str | bytes):
                return np.stack([np.asarray(row) for row in array])
            if not any(isinstance(value, str | bytes) for value in array.flat):
                return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"'{name}' cannot be converted to one array of numbers ({error})") from None
    return array


def vectors(column: pa.ChunkedArray | pa.Array) -> np.ndarray | None:
    """Stack an Arrow column of lists of numbers into ``[N, D]``; missing rows are NaN.

    Returns
    -------
    ndarray or None
        ``[N, D]``, or ``[N, A, B]`` for lists of lists; None if it does not contain lists of numbers of equal length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # in some versions of pyarrow
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    sizes: list[int] = []
    if isinstance(array, pa.ExtensionArray):
        sizes = list(getattr(array.type, "shape", ()))
        array = array.storage
    if not _is_list(array.type):
        return None
    rows, present = len(array), array.is_valid().to_numpy(zero_copy_only=False)
    array, shape = array.drop_null(), [int(present.sum())]
    while _is_list(array.type):
        lengths = pc.list_value_length(array)
        limits = pc.min_max(lengths)
        if array.null_count or limits["min"] != limits["max"] or not limits["min"].is_valid:
            return None
        shape.append(limits["min"].as_py())
        array = array.flatten()
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    values = array.to_numpy(zero_copy_only=False).reshape([shape[0], *(sizes or shape[1:])])
    if present.all():
        return np.asarray(values)
    whole = np.full((rows, *values.shape[1:]), np.nan, np.result_type(values.dtype, np.float32))
    whole[present] = values
    return whole


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def tensor_array(tensor: Tensor) -> np.ndarray:
    """Convert a tensor to an array; types that NumPy lacks (bfloat16, float8) become float32."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    try:
        return tensor.numpy()
    except TypeError:
        return tensor.to(torch.float32).numpy()
