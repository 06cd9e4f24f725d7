"""Conversion of text to numbers: missing values, decimal commas, and words for yes and no."""

from __future__ import annotations

__all__ = [
    "MISSING",
    "decimal_commas",
    "is_number",
    "is_value",
    "to_booleans",
    "to_floats",
    "why_no_number",
    "without_missing",
]

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

_WORDS = """
    na n/a n.a. #n/a #na <na> nan -nan nat null #null! none nil - -- --- ? . .. missing
"""
MISSING = frozenset(_WORDS.split())
"""Words for a missing value besides empty text, in lower case."""
PAIRS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"))
COMMA = r"^[+-]?(\d+(,\d*)?|,\d+)([eE][+-]?\d+)?$"
THOUSANDS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+$"
GROUPED = re.compile(r"[+-]?\d{1,3}([., '\u00a0\u202f]\d{3})+([.,]\d+)?", re.ASCII)


def without_missing(texts: pa.Array) -> tuple[pa.Array, list[str]]:
    """Replace the words for a missing value by nulls.

    Returns
    -------
    texts : pyarrow.Array
        The texts with nulls.
    words : list of str
        The words found, without empty text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    small = pc.is_in(pc.ascii_lower(texts), value_set=pa.array(["", *sorted(MISSING)]))
    if not pc.any(small).as_py():
        return texts, []
    words = pc.unique(texts.filter(small)).to_pylist()
    return pc.if_else(small, None, texts), sorted(filter(None, words))


def to_floats(texts: pa.Array, comma: bool = False) -> np.ndarray | None:
    """Convert text to float64, nulls to NaN; None if a value is not a number."""
    import pyarrow.compute as pc

    if comma:
        texts = pc.replace_substring(texts, ",", ".")
    try:
        return np.asarray(texts.cast("float64").to_numpy(zero_copy_only=False), np.float64)
    except ValueError:
        return None


def to_booleans(texts: pa.Array) -> tuple[np.ndarray, tuple[str, str]] | None:
    """Convert words for no and yes, all of one pair, to 0 and 1; None if there are others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    small = pc.ascii_lower(texts)
    words = set(pc.unique(small).to_pylist()) - {None}
    pair = next((pair for pair in PAIRS if words and words <= set(pair)), None)
    if pair is None:
        return None
    numbers = pc.index_in(small, value_set=pa.array(pair)).cast("float64")
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64), pair


def decimal_commas(columns: Sequence[pa.Array], delimiter: str) -> bool:
    """Whether commas are decimal points in the columns of a file that are not numbers otherwise.

    The comma of ``1,234`` may separate thousands. Commas are decimal points if some value excludes that (``0,25``), or
    if the delimiter is a semicolon.
    """
    import pyarrow.compute as pc

    for texts in columns:
        if not pc.all(pc.match_substring_regex(texts, COMMA)).as_py():
            continue
        commas = texts.filter(pc.match_substring(texts, ","))
        if delimiter == ";" or not pc.all(pc.match_substring_regex(commas, THOUSANDS)).as_py():
            return True
    return False


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text  # float() accepts these, tables do not


def is_value(text: str) -> bool:
    """Whether a text is a number or a word for yes or no, and therefore not a column name."""
    words = (pair for pair in PAIRS if len(pair[0]) > 1)  # n may be a column name
    return (
        is_number(text)
        or re.fullmatch(COMMA, text, re.ASCII) is not None
        or any(text.lower() in pair for pair in words)
    )


def why_no_number(text: str) -> str:
    """Return why a text is not a number, for messages."""
    if GROUPED.fullmatch(text):
        return "has thousands separators; write plain numbers such as 1234.5"
    if text.endswith("%"):
        return "has a percent sign; write plain numbers"
    return "is not a number"
