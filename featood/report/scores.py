"""Scores of the samples as a Parquet file."""

from __future__ import annotations

__all__ = ["read_scores", "write_scores"]

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.errors import DataError
from featood.report.files import replacing

if TYPE_CHECKING:
    import pyarrow

_ROW_GROUP = 65_536


def write_scores(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write scores to a Parquet file, one or more row groups per record.

    Columns: `dataset`, `split`, `id`, `label`, `prediction`, `head`, `score`. The file appears when it is complete;
    one record at a time is in memory.

    Parameters
    ----------
    path : path
        The file to write.
    records : iterable of dict
        Blocks of rows. `dataset`, `split` and `head` are strings that hold for the whole block; `id` (converted to
        str) and `score` (float, higher = more OOD) are arrays of shape [N]; `label` and `prediction` are integer
        arrays of shape [N] or None.

    Raises
    ------
    DataError
        If the columns of a record differ in length, or the file cannot be written.
    """
    import pyarrow.parquet as pq

    schema = _schema()
    with replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for record in records:
            writer.write_table(_table(record, schema), row_group_size=_ROW_GROUP)


def read_scores(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file written by `write_scores`, one per row group.

    Parameters
    ----------
    path : path
        The file to read.

    Yields
    ------
    dict
        As taken by `write_scores`; `label` and `prediction` are None if a value is missing.

    Raises
    ------
    DataError
        If the file cannot be read, or is not such a file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wrong = f"{path} is not a file of scores; give one written by featood score --scores"
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != _schema().names:
                raise DataError(wrong)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                same = {name: table[name].unique().to_pylist() for name in ("dataset", "split", "head")}
                if any(len(values) != 1 for values in same.values()):
                    raise DataError(wrong)
                yield {
                    **{name: values[0] for name, values in same.items()},
                    "id": table["id"].to_numpy(),
                    "score": table["score"].to_numpy().astype(np.float64),
                    **{
                        name: None if table[name].null_count else table[name].to_numpy()
                        for name in ("label", "prediction")
                    },
                }
    except pa.ArrowInvalid:
        raise DataError(wrong) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            *((name, pa.string()) for name in ("dataset", "split", "id")),
            *((name, pa.int64()) for name in ("label", "prediction")),
            ("head", pa.string()),
            ("score", pa.float64()),
        ]
    )


def _table(record: Mapping[str, Any], schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow as pa

    n = len(record["score"])
    columns = []
    for field in schema:
        value = record[field.name]
        if value is None or isinstance(value, str):
            columns.append(pa.repeat(pa.scalar(value, field.type), n))
            continue
        values = np.asarray(value)
        if len(values) != n:
            where = f"{record['dataset']}/{record['split']}, head {record['head']}"
            raise DataError(f"{where}: {len(values)} values of {field.name!r} for {n} scores")
        columns.append(pa.array(values.astype(str) if field.name == "id" else values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)
