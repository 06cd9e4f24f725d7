"""Sequences of letters as rows of token numbers."""

from __future__ import annotations

__all__ = ["DNA", "Tokens", "tokens_of"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featood.errors import DataError, UsageError
from featood.readers.columns import Columns
from featood.readers.inference import LABELS, Rows, check_lengths, is_unlabelled
from featood.readers.naming import column_position, listed

DNA = "ACGT"
NONE = 255
"""Code of a letter outside the alphabet."""


@dataclass(frozen=True)
class Tokens:
    """Which column contains sequences, and how to read them."""

    column: str
    """Name or position of the column."""
    alphabet: str = DNA
    """Letters by their numbers 0, 1, 2, ...; if all are of one case, the other case counts as equal."""
    invalid: str = "error"
    """What to do with sequences that are empty, differ in length or contain other letters: ``error`` or ``drop``."""

    def __post_init__(self) -> None:
        letters = set(self.alphabet)
        if not 2 <= len(letters) == len(self.alphabet) or not all("!" <= letter <= "~" for letter in letters):
            raise UsageError(
                f"--alphabet takes two or more different letters such as ACGT, not {self.alphabet!r}"
            )
        if self.invalid not in ("error", "drop"):
            raise UsageError(f"--invalid takes error or drop, not {self.invalid!r}")


def tokens_of(source: Columns, path: Path, how: Tokens, label: str = "", length: int = 0) -> Rows:
    """Read a column of sequences of equal length as the features of a table; spaces in them are ignored.

    Parameters
    ----------
    source : Columns
        Columns of the file.
    path : Path
        The file, for messages.
    how : Tokens
        The column of sequences, and how to read it.
    label : str
        Column of classes, by name or by position (-1 for the last).
    length : int
        Number of tokens of a sequence; by default the most frequent one.

    Returns
    -------
    Rows
        Features uint8 ``[M, L]``; sequences without a label are left out.

    Raises
    ------
    DataError
        If the column is not text, or a sequence is not valid and is not to be dropped; the message has its row.
    UsageError
        If a column does not exist, or is both sequences and label.
    """
    names = source.names
    place = column_position(how.column, names, path)
    target = column_position(label, names, path) if label else -1
    if place == target:
        raise UsageError(f"column {names[place]!r} cannot be both the sequences and the label")
    check_lengths(source, {place, target} - {-1}, path)
    where = f"{path}: column {names[place]!r}"
    letters, offsets = _letters(source.values[place], where)
    codes, notes = _codes(letters, how.alphabet)
    sizes = np.diff(offsets)
    if not sizes.any():
        raise DataError(f"{where} contains empty sequences only")
    length = length or int(np.bincount(sizes[sizes > 0]).argmax())
    problems = _problems(codes, offsets, how.alphabet, length)
    invalid = np.logical_or.reduce([*problems.values()])
    if invalid.any() and how.invalid == "error":
        row = int(np.argmax(invalid))
        text = letters[offsets[row] : offsets[row + 1]]
        wrong = _why(text, codes[offsets[row] : offsets[row + 1]], how.alphabet, length)
        raise DataError(
            f"{where} has in row {row} {wrong}; {int(invalid.sum())} of {len(sizes)} sequences are not valid: mend "
            "them, or leave them out with --invalid drop"
        )
    labels: Any = source.values[target] if label else None
    if label:
        problems["without a label"] = is_unlabelled(labels, names[target] in source.classes) & ~invalid
    kept = ~np.logical_or.reduce([*problems.values()])
    if counts := [f"{int(rows.sum())} {what}" for what, rows in problems.items() if rows.any()]:
        notes.append(f"sequences left out: {', '.join(counts)}")
    if not kept.any():
        raise DataError(f"{where} has no row that can be used ({'; '.join(notes)})")
    rows = codes.reshape(-1, length) if kept.all() else codes[np.repeat(kept, sizes)].reshape(-1, length)
    if label and not kept.all():
        labels = labels.filter(kept) if hasattr(labels, "filter") else labels[kept]
    left_out = tuple(name for other, name in enumerate(names) if other not in (place, target))
    numbered = " ".join(f"{letter}={number}" for number, letter in enumerate(how.alphabet))
    notes = [f"tokens of {names[place]!r}: {numbered}", *_left_out(left_out, label), *source.notes, *notes]
    classes = source.classes.get(names[target], ()) if label else ()
    columns = tuple(map(str, range(length)))
    return Rows(rows, columns, np.flatnonzero(kept), labels, classes, left_out, tuple(notes))


def _letters(values: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of all sequences, uint8, and where each begins ``[N + 1]``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "USO":
        try:
            values = pa.array(values.tolist())
        except (pa.ArrowException, TypeError, ValueError):
            raise DataError(f"{where} contains values of several types, not text") from None
    if isinstance(values, np.ndarray):
        raise DataError(
            f"{where} contains numbers, not text; import token numbers with --features tokens=FILE"
        )
    column = pa.chunked_array(values) if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = str(column.type)
    if kind not in ("string", "large_string", "string_view"):
        raise DataError(f"{where} contains values of type {kind}, not text")
    texts: Any = pc.fill_null(column.cast(pa.large_string()), "")
    if pc.any(pc.match_substring_regex(texts, r"\s")).as_py():
        texts = pc.replace_substring_regex(texts, r"\s+", "")
    joined = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.large_string())
    _, offsets, content = joined.buffers()
    begins = np.frombuffer(offsets, np.int64)[joined.offset : joined.offset + len(joined) + 1]
    letters = np.frombuffer(content, np.uint8) if content else np.empty(0, np.uint8)
    return letters[begins[0] : begins[-1]], begins - begins[0]


def _codes(letters: np.ndarray, alphabet: str) -> tuple[np.ndarray, list[str]]:
    """Return the number of each letter, and a note if case was ignored."""
    table = np.full(256, NONE, np.uint8)
    cased = alphabet.isupper() or alphabet.islower()
    swapped = [ord(letter.swapcase()) for letter in alphabet if letter.isalpha()] if cased else []
    if swapped:
        table[swapped] = [number for number, letter in enumerate(alphabet) if letter.isalpha()]
    table[np.frombuffer(alphabet.encode(), np.uint8)] = np.arange(len(alphabet))
    ignored = bool(np.isin(swapped, np.flatnonzero(np.bincount(letters, minlength=256))).any())
    case = ("lower", "upper") if alphabet.isupper() else ("upper", "lower")
    note = "{}-case letters are read as {}-case ones; to keep them apart, list both in --alphabet".format(
        *case
    )
    return table[letters], [note] if ignored else []


def _problems(codes: np.ndarray, offsets: np.ndarray, alphabet: str, length: int) -> dict[str, np.ndarray]:
    """Return which sequences have each problem ``[N]``, at most one each."""
    sizes = np.diff(offsets)
    foreign = np.zeros(len(sizes), bool)
    foreign[np.searchsorted(offsets, np.flatnonzero(codes == NONE), "right") - 1] = True
    return {
        "empty": sizes == 0,
        f"with letters other than {alphabet}": foreign,
        f"not of {length} letters": (sizes > 0) & (sizes != length) & ~foreign,
    }


def _why(text: np.ndarray, codes: np.ndarray, alphabet: str, length: int) -> str:
    """Say what is wrong with a sequence."""
    if not len(text):
        return "an empty sequence"
    shown = text.tobytes().decode(errors="replace")
    if (codes == NONE).any():
        at = int(np.argmax(codes == NONE))
        letter = text[at:].tobytes().decode(errors="replace")[0]
        return f"the letter {letter!r}, which is not in --alphabet {alphabet} (at position {at})"
    return f"a sequence of {len(text)} letters instead of {length} ({shown[:20]!r}...)"


def _left_out(names: Sequence[str], label: str) -> list[str]:
    notes = [f"left out: {listed(names)} (neither the sequences nor the label)"] if names else []
    if not label and (likely := [name for name in LABELS if name in names]):
        notes.append(f"if {likely[0]!r} contains the classes, add --label {likely[0]}")
    return notes
