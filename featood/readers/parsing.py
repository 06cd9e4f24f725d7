"""Conversion of columns of any type to numbers."""

from __future__ import annotations

__all__ = ["Parsed", "parse_columns"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from featood.readers.columns import Columns
from featood.readers.labels import EXACT
from featood.readers.numbers import (
    decimal_commas,
    is_number,
    to_booleans,
    to_floats,
    why_no_number,
    without_missing,
)

COMMAS = "commas are read as decimal points"
ROUNDED = "integers beyond 2**53 are rounded to float64"
YES_NO = "{} and {} are read as 1 and 0"


class Parsed(NamedTuple):
    """A column as numbers, or the problem with it."""

    values: np.ndarray
    """``[N]`` or ``[N, D]`` float64, NaN for missing values; empty if the column is not numeric."""
    wrong: str = ""
    """Description of a value that is not a number."""
    how: str = ""
    """Description of a conversion, if values were not plain numbers."""
    words: Sequence[str] = ()
    """Words in the column that count as missing values."""
    texts: Any = None
    """Text values without these words, if the column is text."""

    @property
    def empty(self) -> bool:
        """Whether every value is missing."""
        return not self.wrong and bool(np.isnan(self.values).all())


def parse_columns(source: Columns, places: Sequence[int]) -> dict[int, Parsed]:
    """Convert columns to numbers; whether commas are decimal points is decided from all of them together.

    Parameters
    ----------
    source : Columns
        The table.
    places : sequence of int
        Positions of the columns.
    """
    parsed = {place: _parse(source.values[place]) for place in places}
    unread = {place: found for place, found in parsed.items() if found.wrong and found.texts is not None}
    if not unread or not decimal_commas([found.texts for found in unread.values()], source.delimiter):
        return parsed
    for place, found in parsed.items():
        if place in unread and (values := to_floats(found.texts, comma=True)) is not None:
            parsed[place] = Parsed(values, how=COMMAS, words=found.words, texts=found.texts)
        elif place not in unread and found.texts is not None and (point := _with_point(found.texts)):
            wrong = (
                f"{point!r}, but commas are decimal points elsewhere; write all numbers in the same format"
            )
            parsed[place] = found._replace(values=np.empty(0), wrong=wrong)
    return parsed


def _parse(values: Any) -> Parsed:
    import pyarrow as pa

    if isinstance(values, np.ndarray):
        if (
            values.ndim > 2
            or values.dtype.kind not in "fiubUSO"
            or (values.ndim == 2 and values.dtype.kind in "USO")
        ):
            return _wrong(f"values {list(values.shape)} of type {values.dtype}")
        if values.dtype.kind in "fiu":
            return Parsed(values.astype(np.float64), how=_rounded(values))
        if values.dtype.kind == "b":
            return Parsed(values.astype(np.float64), how=YES_NO.format("true", "false"))
        try:
            values = pa.array(values.tolist())
        except (pa.ArrowException, TypeError, ValueError):
            return _wrong("values of several types")
    column = pa.chunked_array(values) if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_null(kind):
        return Parsed(np.full(len(column), np.nan))
    if pa.types.is_boolean(kind):
        return Parsed(_floats(column.cast("int8")), how=YES_NO.format("true", "false"))
    if pa.types.is_integer(kind):
        return Parsed(_floats(column), how=_rounded(column.drop_null().to_numpy()))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Parsed(_floats(column))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        return _parse_texts(column.cast(pa.string()))
    return _wrong("dates or times" if pa.types.is_temporal(kind) else f"values of type {kind}")


def _wrong(what: str) -> Parsed:
    return Parsed(np.empty(0), f"{what}, which are not numbers")


def _parse_texts(column: Any) -> Parsed:
    import pyarrow.compute as pc

    words: Sequence[str] = ()
    texts, values = column, to_floats(column)
    if values is None or np.isnan(values).any():
        texts, words = without_missing(pc.utf8_trim_whitespace(column))
        values = to_floats(texts)
    if values is not None:
        long = np.abs(values).max(initial=0, where=~np.isnan(values)) >= EXACT
        how = ROUNDED if long and pc.any(pc.match_substring_regex(texts, r"^[+-]?\d{16,}$")).as_py() else ""
        return Parsed(values, how=how, words=words, texts=texts)
    if (found := to_booleans(texts)) is not None:
        return Parsed(found[0], how=YES_NO.format(*found[1][::-1]), words=words, texts=texts)
    present = texts.drop_null().to_pylist()
    wrong = next((text for text in present if not is_number(text)), present[0])
    return Parsed(np.empty(0), f"{wrong!r}, which {why_no_number(wrong)}", words=words, texts=texts)


def _floats(column: Any) -> np.ndarray:
    """Convert Arrow numbers to float64, missing values to NaN."""
    return np.asarray(column.cast("float64", safe=False).to_numpy(), np.float64)


def _rounded(values: np.ndarray) -> str:
    whole = values.dtype.kind in "iu" and values.size
    return ROUNDED if whole and max(int(values.max()), -int(values.min())) > EXACT else ""


def _with_point(texts: Any) -> str:
    """Return the first text with a decimal point."""
    import pyarrow.compute as pc

    found = texts.filter(pc.match_substring(texts, "."))
    return found[0].as_py() if len(found) else ""
