"""Conversion of labels of any kind to class numbers and names."""

from __future__ import annotations

__all__ = ["class_labels", "texts_of"]

import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.errors import DataError
from featood.readers.arrays import tensor_array

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 2**53
"""From here on, float64 cannot represent every integer."""
PLAIN = re.compile(r"0|-?[1-9]\d*", re.ASCII)
WHOLE = re.compile(r"[+-]?\d+(\.0*)?", re.ASCII)
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
SEVERAL = re.compile(rf"{_NUMBER}([\s,;]+{_NUMBER})+", re.ASCII)


def class_labels(
    values: Any,
    classes: Sequence[str] = (),
    others: Callable[[], Iterable[str]] = tuple,
    lenient: bool = False,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert labels to class numbers.

    Integers are class numbers already and stay unchanged (negative: unknown class); so do whole floats, and text if all
    of it is plain integers below 2**53. Other text is names, numbered in sorted order (numerical if all are numbers:
    ``01`` and ``1`` are two classes). ``False`` and ``True`` are 0 and 1; one-hot rows become the position of the 1.
    Empty text, None and NaN are unknown.

    Parameters
    ----------
    values : array, tensor, list, Arrow column or series
        ``[N]``, ``[N, 1]``, or ``[N, C]`` with one 1 in each row.
    classes : sequence of str
        Names of the classes in the order of their numbers, if these are fixed.
    others : callable
        Returns further labels to include when names are numbered, such as those of other splits.
    lenient : bool
        Accept ``03`` and ``3.0`` as the number 3, unless two different strings are the same number.

    Returns
    -------
    labels : array
        int64 ``[N]``.
    names : tuple of str
        Name of each class: `classes` if given; empty if only numbers are known.

    Raises
    ------
    DataError
        If the values are not classes (floats that are not whole, a wrong shape), or are not among `classes`.
    """
    array = _flat(values)
    if _is_text(array):
        return _named(_texts(array), tuple(classes), others, WHOLE if lenient else PLAIN)
    if array.dtype.kind == "b":
        if classes and not {"False", "True"} <= set(classes):
            return _numbered(array.astype(np.int64), tuple(classes))
        names = tuple(classes) or ("False", "True")
        return np.where(array, names.index("True"), names.index("False")).astype(np.int64), names
    return _numbered(_integers(array), tuple(classes))


def _flat(values: Any) -> Any:
    """Return the values ``[N]``: an Arrow array of strings, or a NumPy array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if hasattr(values, "detach"):
        values = tensor_array(values)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            return values
        if pa.types.is_integer(values.type) and values.null_count:
            values = pc.fill_null(values.cast(pa.int64()), -1)
        values = values.to_numpy(zero_copy_only=False)
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError("labels must be one per row; these lists differ in length") from None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] and array.dtype.kind in "fiub":
        if not (((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()):
            raise DataError(f"labels {list(array.shape)} are not one-hot; give one class per row, [N]")
        warnings.warn(
            f"the labels {list(array.shape)} are one-hot; the class of a row is the position of its 1",
            stacklevel=3,
        )
        array = array.argmax(1)
    if array.ndim != 1:
        raise DataError(f"labels must be one per row, [N], not {list(array.shape)}")
    return _from_objects(array) if array.dtype == object else array


def _from_objects(array: np.ndarray) -> np.ndarray | pa.Array:
    """Convert an object array to the common type of its values; None, NaN and pandas' NA are missing."""
    import pyarrow as pa

    present = [not _is_missing(value) for value in array]
    values = array[present]
    if any(isinstance(value, str | bytes) for value in values):
        return pa.array(
            [_text(value) if known else None for value, known in zip(array, present, strict=True)],
            pa.string(),
        )
    if all(isinstance(value, bool | np.bool_) for value in values) and all(present):
        return array.astype(bool)
    try:
        if all(isinstance(value, int | np.integer) for value in values):
            numbers = np.full(len(array), -1, np.int64)
            numbers[present] = values.astype(np.int64)
            return numbers
        return np.where(present, array, np.nan).astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        kind = type(next(iter(values))).__name__
        raise DataError(f"labels must be text or numbers, not values of type {kind}") from None


def _is_missing(value: Any) -> bool:
    # pandas' own missing values cannot be compared
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and value != value)
    )


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _is_text(array: Any) -> bool:
    return not isinstance(array, np.ndarray) or array.dtype.kind in "UST"


def texts_of(array: np.ndarray) -> list[str]:
    """Convert an array of text or bytes to strings without surrounding blanks."""
    return _texts(array.reshape(-1)).to_pylist()


def _texts(array: Any) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, np.ndarray):
        array = pa.array([_text(value) for value in array.tolist()], pa.string())
    return pc.utf8_trim_whitespace(array)


def _named(
    texts: pa.Array, classes: tuple[str, ...], others: Callable[[], Iterable[str]], integer: re.Pattern[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    import pyarrow.compute as pc

    encoded = pc.fill_null(texts, "").dictionary_encode()
    found: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy()
    known = [name for name in found if name]
    if not classes:
        if (numbers := _numbers(known, integer)) is not None:
            return np.array([numbers.get(name, -1) for name in found], np.int64)[codes], ()
        if known and all(SEVERAL.fullmatch(name) for name in known):
            raise DataError(f"a label is {known[0]!r}, which is not a class; give one number or name per row")
        classes = tuple(_in_order(list({*known, *filter(None, others())}), len(texts)))
    if unknown := [name for name in known if name not in classes]:
        near = difflib.get_close_matches(unknown[0], classes, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {_some(classes)}"
        raise DataError(f"no class is named {unknown[0]!r}: {hint}")
    place = {name: number for number, name in enumerate(classes)}
    numbers_of = np.array([place.get(name, -1) if name else -1 for name in found], np.int64)
    return numbers_of[codes] if len(found) else np.empty(0, np.int64), classes


def _numbers(names: Sequence[str], integer: re.Pattern[str]) -> dict[str, int] | None:
    """Return the integer of each text; None if one is not an integer, or two are the same."""
    if not names or not all(integer.fullmatch(name) and len(name) < 20 for name in names):
        return None
    numbers = {name: int(name.partition(".")[0]) for name in names}
    sound = len(set(numbers.values())) == len(numbers) and max(map(abs, numbers.values())) < EXACT
    return numbers if sound else None


def _is_plain(name: str) -> bool:
    return PLAIN.fullmatch(name) is not None and len(name) < 17 and abs(int(name)) < EXACT


def _in_order(names: list[str], rows: int) -> list[str]:
    """Sort names, numerically if all are numbers; many fractions are refused as regression targets."""
    try:
        numbers = {name: Decimal(name) for name in names}
    except InvalidOperation:
        return sorted(names)
    if not all(number.is_finite() for number in numbers.values()):
        return sorted(names)
    measured = next((name for name, number in numbers.items() if number != number.to_integral_value()), "")
    if measured and len(names) > max(rows / 2, 2):
        raise _regression(measured)
    return sorted(names, key=lambda name: (numbers[name], name))


def _regression(value: Any) -> DataError:
    return DataError(
        f"a label is {value}, but regression targets are not classes; give names or whole numbers"
    )


def _integers(array: np.ndarray) -> np.ndarray:
    """Convert numbers to int64, after checking that they are whole."""
    if array.dtype.kind == "f":
        unknown = np.isnan(array)
        whole = unknown | (np.isfinite(array) & (array == np.round(array)))
        if not whole.all():
            raise _regression(array[np.argmin(whole)])
        if np.abs(array).max(initial=0, where=~unknown) >= EXACT:
            raise DataError(
                "labels are floats beyond 2**53, which cannot be distinguished; save them as integers or text"
            )
        if unknown.any():
            warnings.warn(
                f"{int(unknown.sum())} labels are NaN; their classes count as unknown", stacklevel=4
            )
        return np.where(unknown, -1, array).astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DataError(f"labels of type {array.dtype} are not classes; give text or whole numbers")
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"labels reach {int(array.max())}, beyond 64-bit integers; renumber the classes")
    return array.astype(np.int64, copy=False)


def _numbered(labels: np.ndarray, classes: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Map numbers to named classes: by name if all names are numbers, otherwise by position."""
    if not classes or not len(labels):
        return labels, classes
    if all(map(_is_plain, classes)):
        places = {int(name): place for place, name in enumerate(classes)}
        found, inverse = np.unique(labels, return_inverse=True)
        if unknown := [number for number in found.tolist() if number >= 0 and number not in places]:
            raise DataError(f"no class is named '{unknown[0]}': there are {_some(classes)}")
        return np.array([places.get(number, -1) for number in found.tolist()], np.int64)[inverse], classes
    if (highest := int(labels.max())) >= len(classes):
        raise DataError(f"a label is {highest}, but there are {len(classes)} classes: {_some(classes)}")
    return labels, classes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
