"""Lance data sets, if the package pylance is installed."""

from __future__ import annotations

__all__ = ["READER"]

from pathlib import Path

from featood.errors import DataError
from featood.readers.columns import Columns, Reader, from_arrow


def _read(path: Path) -> Columns:
    try:
        import lance
    except ImportError:
        raise DataError(
            f"{path} is a Lance data set; install the package pylance to read it: pip install pylance"
        ) from None
    return from_arrow(lance.dataset(str(path)).to_table())


READER = Reader(
    title="Lance",
    endings=(),
    read=_read,
    folder=lambda path: path.suffix == ".lance" or (path / "_versions").is_dir(),
)
