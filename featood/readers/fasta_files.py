"""FASTA files of biological sequences."""

from __future__ import annotations

__all__ = ["READER"]

from pathlib import Path

from featood.errors import DataError
from featood.readers.columns import Columns, Reader
from featood.readers.text import unpacked


def _read(path: Path) -> Columns:
    """Read the columns ``name`` (first word of a header), ``description`` (the others) and ``sequence``."""
    import pyarrow as pa

    content = unpacked(path).decode().replace("\r\n", "\n").replace("\r", "\n").lstrip()
    if not content.startswith(">"):
        raise DataError(f"{path} is not a FASTA file: it does not begin with '>'")
    records = [record.partition("\n") for record in content[1:].split("\n>")]
    headers = [[*header.split(maxsplit=1), "", ""] for header, _, _ in records]
    columns = {
        "name": [words[0] for words in headers],
        "description": [words[1].rstrip() for words in headers],
        "sequence": ["".join(lines.split()) for _, _, lines in records],
    }
    values = tuple(pa.chunked_array([pa.array(texts, pa.large_string())]) for texts in columns.values())
    return Columns(tuple(columns), values, index=("name",))


READER = Reader(title="FASTA", endings=(".fasta", ".fa", ".fna", ".ffn", ".faa", ".frn"), read=_read)
