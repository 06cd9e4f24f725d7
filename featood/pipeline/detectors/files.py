"""Images named on a command line: files, folders, arrays, and lists on standard input; predictions as records."""

from __future__ import annotations

__all__ = ["as_record", "image_sets", "names_of", "predict_files", "write_predictions"]

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from featood.data import Decoding, ImageSet, open_images
from featood.data.images.lists import LIST_SUFFIXES
from featood.data.suffixes import IMAGE_SUFFIXES
from featood.errors import DataError
from featood.files import replacing
from featood.pipeline.detectors.detector import Detector, Prediction
from featood.reporter import SILENT, Reporter

SETS = (".npy", ".npz", *LIST_SUFFIXES)


def image_sets(
    names: Iterable[str], decoding: Decoding, lines: Iterable[str] = (), most: int | None = None
) -> Iterator[ImageSet]:
    """Yield the images of names as sets, in their order; files in a row are one set.

    Parameters
    ----------
    names : iterable of str
        Image files; folders, whose images are found below them, in the order of their paths; packed images (``.npy``,
        ``.npz``) and image lists as of :func:`featood.data.open_images`; ``-`` for names from `lines`.
    decoding : Decoding
        Options of decoding.
    lines : iterable of str
        One name per line.

    Raises
    ------
    DataError
        If a name does not exist, or a folder has no images.
    """
    files: list[str] = []
    for name in names_of(names, lines):
        path = Path(name)
        if path.is_dir():
            found = sorted(
                str(inside)
                for inside in path.rglob("*")
                if inside.suffix.lower() in IMAGE_SUFFIXES and inside.is_file()
            )
            if not found:
                raise DataError(f"{name} has no images ({', '.join(sorted(IMAGE_SUFFIXES)[:6])}, ...)")
            files += found
        elif path.is_file() and path.suffix.lower() in SETS:
            if files:
                yield _of_files(files, decoding)
                files = []
            images = open_images(os.path.abspath(name))
            if images.array is not None:
                images = dataclasses.replace(images, ids=tuple(f"{name}#{row}" for row in images.ids))
            yield dataclasses.replace(images, decoding=decoding)
        elif path.is_file():
            files.append(name)
        else:
            raise DataError(f"{name} does not exist; check the path")
        while most is not None and len(files) >= most:
            yield _of_files(files[:most], decoding)
            files = files[most:]
    if files:
        yield _of_files(files, decoding)


def names_of(names: Iterable[str], lines: Iterable[str]) -> Iterator[str]:
    """Yield names, and those of `lines` in place of ``-``."""
    for name in names:
        if name == "-":
            yield from (line.rstrip("\r\n") for line in lines if line.strip())
        else:
            yield name


def _of_files(files: Sequence[str], decoding: Decoding) -> ImageSet:
    # joining an absolute path to a folder gives the absolute path, so names stay as they were typed
    return ImageSet(name="files", ids=tuple(files), root=Path(os.getcwd()), decoding=decoding)


def predict_files(
    detector: Detector,
    names: Iterable[str],
    lines: Iterable[str] = (),
    neighbours: int = 0,
    reporter: Reporter = SILENT,
) -> Iterator[Prediction]:
    """Decide on the images of names; see :func:`image_sets` and :meth:`Detector.predict`."""
    for images in image_sets(names, detector.network.decoding, lines):
        for note in images.notes:
            reporter.line(f"{images.name}: {note}")
        yield from detector.predict(images, reporter.task("predicting"), neighbours)


def as_record(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as plain values."""
    return {**prediction._asdict(), "neighbours": [near._asdict() for near in prediction.neighbours]}


def write_predictions(path: str | Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions as Parquet, one column per field."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    near = pa.struct([("id", pa.string()), ("distance", pa.float64()), ("class_name", pa.string())])
    schema = pa.schema(
        [
            ("id", pa.string()), ("score", pa.float64()), ("p_value", pa.float64()), ("out", pa.bool_()),
            ("predicted", pa.int64()), ("class_name", pa.string()), ("error", pa.string()),
            ("neighbours", pa.list_(near)),
        ]
    )  # fmt: skip
    table = pa.Table.from_pylist([as_record(one) for one in predictions], schema)
    with replacing(path) as file:
        pq.write_table(table, file)
