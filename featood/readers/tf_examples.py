"""Decoding of ``tf.train.Example`` messages of protocol buffers."""

from __future__ import annotations

__all__ = ["KINDS", "decode_example"]

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types; groups (3 and 4) do not occur in these messages."""
KINDS = {1: "bytes", 2: "float", 3: "int64"}
"""Kinds of a feature's values, by the field that contains them."""

Values = list[Any]
"""Of bytes, floats or integers."""


def decode_example(message: bytes) -> dict[str, tuple[int, Values]]:
    """Return kind and values of each feature of a message ``tf.train.Example``, by name.

    Features without values are left out, and unknown fields skipped, as the encoding demands.

    Raises
    ------
    ValueError
        If it is not such a message.

    References
    ----------
    https://protobuf.dev/programming-guides/encoding, and tensorflow/core/example/feature.proto
    """
    found: dict[str, tuple[int, Values]] = {}
    for features in _messages(message, 1):
        for entry in _messages(features, 1):
            names, values = list(_messages(entry, 1)), list(_messages(entry, 2))
            feature = _feature(b"".join(values))  # parts of one message are merged by concatenation
            name = names[-1].decode() if names else ""
            if feature is not None:
                found[name] = feature
            else:
                found.pop(name, None)
    return found


def _feature(message: bytes) -> tuple[int, Values] | None:
    kind, values = 0, list[Any]()
    for field, wire, content in _fields(message):
        if field not in KINDS:
            continue
        if wire != LENGTH:
            raise ValueError("a feature is not a list")
        if field != kind:  # of several lists, the last one counts
            kind, values = field, []
        values += _LISTS[field](content)
    return (kind, values) if values else None


def _bytes_list(message: bytes) -> list[bytes]:
    return list(_messages(message, 1))


def _float_list(message: bytes) -> list[float]:
    values: list[float] = []
    for field, wire, content in _fields(message):
        if field == 1:
            if wire not in (LENGTH, FIXED32) or len(content) % 4:
                raise ValueError("a list of floats is damaged")
            values += np.frombuffer(content, "<f4").tolist()
    return values


def _int64_list(message: bytes) -> list[int]:
    values: list[int] = []
    for field, wire, content in _fields(message):
        if field == 1 and wire == VARINT:
            values.append(content)
        elif field == 1 and wire == LENGTH:
            at = 0
            while at < len(content):
                value, at = _varint(content, at)
                values.append(value)
        elif field == 1:
            raise ValueError("a list of integers is damaged")
    return [value - 2**64 if value >= 2**63 else value for value in values]  # two's complement


_LISTS: dict[int, Callable[[bytes], Values]] = {1: _bytes_list, 2: _float_list, 3: _int64_list}


def _messages(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the contents of a field that contains bytes."""
    for field, wire, content in _fields(message):
        if field == wanted:
            if wire != LENGTH:
                raise ValueError(f"field {field} has the wrong type")
            yield content


def _fields(message: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield number, wire type and content of each field: an integer for a varint, otherwise bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        content: int | bytes
        if wire == VARINT:
            content, at = _varint(message, at)
        elif wire in (FIXED32, FIXED64, LENGTH):
            size, at = _varint(message, at) if wire == LENGTH else (4 if wire == FIXED32 else 8, at)
            content, at = message[at : at + size], at + size
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at > end or not field:
            raise ValueError("it ends within a field" if field else "it has a field without a number")
        yield field, wire, content


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned integer of at most 64 bits that begins at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise ValueError("a number has more than ten bytes")
