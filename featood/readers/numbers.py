"""Texts as numbers: missing values, decimal commas, and the words for yes and no."""

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
"""Words for a missing value, in lower case, beside the empty text."""
PAIRS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"))
COMMA = r"^[+-]?(\d+(,\d*)?|,\d+)([eE][+-]?\d+)?$"
THOUSANDS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+$"
GROUPED = re.compile(r"[+-]?\d{1,3}([., '\u00a0\u202f]\d{3})+([.,]\d+)?", re.ASCII)


def without_missing(texts: pa.Array) -> tuple[pa.Array, list[str]]:
    """Turn the words for a missing value into nulls.

    Returns
    -------
    texts : pyarrow.Array
        As given, but for the nulls.
    words : list of str
        The words that were found; not the empty text, which needs no telling.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    small = pc.is_in(pc.ascii_lower(texts), value_set=pa.array(["", *sorted(MISSING)]))
    if not pc.any(small).as_py():
        return texts, []
    words = pc.unique(texts.filter(small)).to_pylist()
    return pc.if_else(small, None, texts), sorted(filter(None, words))


def to_floats(texts: pa.Array, comma: bool = False) -> np.ndarray | None:
    """Read texts as float64, nulls as NaN; None where a text is no number."""
    import pyarrow.compute as pc

    if comma:
        texts = pc.replace_substring(texts, ",", ".")
    try:
        return np.asarray(texts.cast("float64").to_numpy(zero_copy_only=False), np.float64)
    except ValueError:
        return None


def to_booleans(texts: pa.Array) -> tuple[np.ndarray, tuple[str, str]] | None:
    """Read words for no and yes, all of one pair, as 0 and 1; None where there are others."""
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
    """Tell whether commas are decimal points in a file's columns that are no numbers otherwise.

    ``1,234`` could have its comma between thousands; one value anywhere that could not (``0,25``), or semicolons
    between the values, as where commas are decimal points, tell.
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
    return text.isascii() and "_" not in text  # float takes more than tables do


def is_value(text: str) -> bool:
    """Whether a text is a number or a word for yes or no, and so nothing that names a column."""
    words = (pair for pair in PAIRS if len(pair[0]) > 1)  # a column may well be called n
    return (
        is_number(text)
        or re.fullmatch(COMMA, text, re.ASCII) is not None
        or any(text.lower() in pair for pair in words)
    )


def why_no_number(text: str) -> str:
    """Say what is wrong with a text where a number should be."""
    if GROUPED.fullmatch(text):
        return "has separators between its thousands; write plain numbers such as 1234.5"
    if text.endswith("%"):
        return "has a percent sign; write plain numbers"
    return "is not a number"
