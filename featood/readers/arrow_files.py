"""Arrow tables: Parquet, Feather and IPC files, and folders of Parquet files."""

from __future__ import annotations

__all__ = ["ARROW", "PARQUET"]

from pathlib import Path

from featood.readers.columns import Columns, Reader, from_arrow


def _read_parquet(path: Path) -> Columns:
    import pyarrow.parquet as pq

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
