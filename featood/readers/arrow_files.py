"""Arrow tables: Parquet, Feather and IPC files, and folders of Parquet files."""

from __future__ import annotations

__all__ = ["ARROW", "PARQUET"]

from pathlib import Path

from featood.errors import DataError
from featood.readers.columns import Columns, Reader, from_arrow

SPLITS = frozenset(("train", "test", "val", "valid", "validation", "dev"))
"""Usual names of splits in the names of files or folders."""


def _read_parquet(path: Path) -> Columns:
    import pyarrow.parquet as pq

    if path.is_dir():
        files = [file.relative_to(path) for file in path.rglob("*.parquet")]
        parts = {
            part for file in files for part in (*file.parts[:-1], file.name.partition("-")[0], file.stem)
        }
        if len(splits := sorted(parts & SPLITS)) > 1:
            raise DataError(f"{path} contains the splits {', '.join(splits)}; give the file or folder of one")
    return from_arrow(pq.read_table(path))


def _read_arrow(path: Path) -> Columns:
    import pyarrow as pa
    from pyarrow import feather

    with open(path, "rb") as file:
        first = file.read(6)
    if first[:4] == b"FEA1":
        return from_arrow(feather.read_table(path))
    with pa.memory_map(str(path)) as source:
        opened = pa.ipc.open_file(source) if first == b"ARROW1" else pa.ipc.open_stream(source)
        return from_arrow(opened.read_all())


PARQUET = Reader(
    title="Parquet",
    endings=(".parquet", ".pq", ".parq"),
    read=_read_parquet,
    magic=(b"PAR1",),
    folder=lambda path: any(path.rglob("*.parquet")),
)
ARROW = Reader(
    title="Arrow or Feather",
    endings=(".arrow", ".feather", ".ipc", ".arrows"),
    read=_read_arrow,
    magic=(b"ARROW1", b"FEA1"),
)
