"""TFRecord files of ``tf.train.Example`` messages, read without TensorFlow."""

from __future__ import annotations

__all__ = ["READER"]

import gzip
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featood.errors import DataError
from featood.readers.columns import Columns, Reader, from_arrow
from featood.readers.tf_examples import KINDS, decode_example

ENDINGS = (".tfrecord", ".tfrecords")
HEADER = 12
"""Bytes before the data of a record: its length, and the checksum of the length."""
LONGEST = 2**31
"""Bound on the bytes of a record, that of protocol buffers."""
ROWS = 1 << 16
"""Records that are converted to Arrow together."""


def _read(path: Path) -> Columns:
    """Read a file, or all files of a folder in the order of their names; a feature becomes a column.

    Features with one value in each record are scalars, others are vectors, and missing ones are missing values. Bytes
    that are UTF-8 are text. Every checksum is compared. Files compressed by gzip are read too.
    """
    files = sorted(file for file in path.iterdir() if _is_named(file)) if path.is_dir() else [path]
    return from_arrow(_table(_examples(files), path))


def _is_named(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(ENDINGS)


def _begins(first: bytes) -> bool:
    """Whether the bytes begin with the length of a record and its checksum."""
    if len(first) < HEADER:
        return False
    length, checksum = struct.unpack("<QI", first[:HEADER])
    return length < LONGEST and _checksum(first[:8]) == checksum


def _checksum(data: bytes) -> int:
    """Return the masked CRC-32C."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _examples(files: Iterable[Path]) -> Iterator[dict[str, tuple[int, Any]]]:
    for file in files:
        for number, record in enumerate(_records(file)):
            try:
                yield decode_example(record)
            except ValueError as error:
                raise DataError(
                    f"{file}: record {number} is not a tf.train.Example message ({error}); only these are read"
                ) from None


def _records(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as file:
        number = 0
        while header := file.read(HEADER):
            length, checksum = struct.unpack("<QI", header.ljust(HEADER, b"\0"))
            if len(header) == HEADER and _checksum(header[:8]) != checksum:
                what = f"record {number} is damaged" if number else "it is damaged, or not a TFRecord file"
                raise DataError(f"{path}: {what} (the checksum of a length is wrong); copy it again")
            if length >= LONGEST:
                raise DataError(f"{path}: record {number} has {length} bytes; at most {LONGEST - 1} are read")
            record = file.read(length + 4)
            if len(record) < length + 4:
                raise DataError(f"{path} ends within record {number}; copy it again")
            if _checksum(record[:-4]) != struct.unpack("<I", record[-4:])[0]:
                raise DataError(f"{path}: record {number} is damaged (its checksum is wrong); copy it again")
            yield record[:-4]
            number += 1


def _table(examples: Iterator[dict[str, tuple[int, Any]]], path: Path) -> Any:
    """Return an Arrow table with a column for each feature."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = {1: pa.list_(pa.binary()), 2: pa.list_(pa.float32()), 3: pa.list_(pa.int64())}
    kinds: dict[str, int] = {}
    chunks: dict[str, list[Any]] = {}
    rows = 0
    while block := _block(examples):
        for name, kind in sorted({(name, kind) for example in block for name, (kind, _) in example.items()}):
            if kinds.setdefault(name, kind) != kind:
                first, other = KINDS[kinds[name]], KINDS[kind]
                raise DataError(
                    f"{path}: feature {name!r} has {first} values in some records, {other} in others"
                )
        for name, kind in kinds.items():
            column = chunks.setdefault(name, [pa.nulls(rows, types[kind])] if rows else [])
            values = [example[name][1] if name in example else None for example in block]
            column.append(pa.array(values, types[kind]))
        rows += len(block)
    if not rows:
        raise DataError(f"{path} has no records")
    columns: Mapping[str, Any] = {name: pa.chunked_array(chunks[name]) for name in sorted(chunks)}
    return pa.table({name: _plain(column, pc) for name, column in columns.items()})


def _block(examples: Iterator[dict[str, tuple[int, Any]]]) -> list[dict[str, tuple[int, Any]]]:
    return [example for _, example in zip(range(ROWS), examples, strict=False)]


def _plain(column: Any, pc: Any) -> Any:
    """Return lists of one value as scalars, and bytes as text where they are UTF-8."""
    import pyarrow as pa

    limits = pc.min_max(pc.list_value_length(column))
    if limits["max"].as_py() != 1:
        return column
    column = pc.list_element(column, 0)
    try:
        return column.cast(pa.large_string()) if pa.types.is_binary(column.type) else column
    except pa.ArrowInvalid:
        return column


READER = Reader(
    title="TFRecord",
    endings=ENDINGS,
    read=_read,
    begins=_begins,
    folder=lambda path: any(map(_is_named, path.iterdir())),
)
