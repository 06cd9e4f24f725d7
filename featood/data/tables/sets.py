"""Built-in tables, each with out-of-distribution rows, and noise as out-of-distribution rows of any table."""

from __future__ import annotations

__all__ = [
    "NOISE",
    "TOKEN_NOISES",
    "TableEntry",
    "find_table",
    "list_tables",
    "open_table",
    "refuse_table",
    "table_noise",
    "token_noise",
]

import difflib
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from featood.data.tables import Table, read_table, separate_classes
from featood.data.tables.genomics import GENOMICS_FILES, load_genomics
from featood.data.tables.toys import TOYS
from featood.errors import DataError, UsageError

StrPath = str | os.PathLike[str]
Rows = Table | Mapping[str, Table]
"""Rows to divide at random, or rows by published split."""
NOISE = "table-noise"
NOISES = ("gaussian", "uniform", "constant")
TOKEN_NOISES = ("mutate",)
ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """A built-in table.

    Attributes
    ----------
    name, title : str
        The name on the command line, and the printed one.
    source : str
        Origin of the files.
    width, num_classes : int
        Number of features, and of in-distribution classes (0 without labels).
    ood : str
        Name of its out-of-distribution rows.
    files : tuple of str
        Files below ``DIR/<name>/`` or ``DIR/tabular/<name>/``, or patterns of files and folders; none for a generated
        table.
    scale : str
        Scaling of the features, see :func:`featood.data.tables.fit_scaling`.
    load : callable
        ``load(folder)``, or for a generated table ``load(rows, generator)``; returns in-distribution and
        out-of-distribution rows, by split if `divided`.
    rows : int
        Default number of rows of a generated table; 0 if the number is fixed.
    divided : bool
        Whether the table has its own splits.
    """

    name: str
    title: str
    source: str
    width: int
    num_classes: int
    ood: str
    load: Callable[..., tuple[Rows, Rows]]
    files: tuple[str, ...] = ()
    scale: str = "none"
    rows: int = 0
    divided: bool = False

    def folder(self, data_dir: StrPath) -> Path | None:
        """Find the folder that contains all files; None if there is none."""
        places = (Path(data_dir) / self.name, Path(data_dir) / "tabular" / self.name)
        return next((place for place in places if all(any(place.glob(file)) for file in self.files)), None)


def list_tables() -> list[TableEntry]:
    """List all entries."""
    return list(_TABLES.values())


def find_table(name: str) -> TableEntry:
    """Find the entry of a table.

    Raises
    ------
    UsageError
        If there is none; the message suggests the closest names.
    """
    entry = _TABLES.get(name.lower().replace("_", "-"))
    if entry is None:
        near = difflib.get_close_matches(name.lower(), _TABLES, n=2)
        hint = f"did you mean {' or '.join(near)}" if near else f"there are {', '.join(_TABLES)}"
        raise UsageError(f"no table is named {name!r}: {hint}? Import your own with --file FILE")
    return entry


def refuse_table(name: str) -> None:
    """Refuse the name of a table where a set of images is expected.

    Raises
    ------
    UsageError
        If the name is that of a table or of its out-of-distribution rows; the message says how to import it.
    """
    name = name.lower().replace("_", "-")
    for entry in list_tables():
        if name in (entry.name, entry.ood):
            raise UsageError(
                f"{name} is a table, not a set of images; import it: featood import --table {entry.name}"
            )


def open_table(
    entry: TableEntry, data_dir: StrPath, rows: int | None = None, seed: int = 0
) -> tuple[Rows, Rows]:
    """Open a table.

    Parameters
    ----------
    entry : TableEntry
        The table.
    data_dir : path
        Folder with the files of tables.
    rows : int, optional
        Number of in-distribution rows of a generated table.
    seed : int
        Seed of the generator.

    Returns
    -------
    inside, outside : Table, or mapping of str to Table
        In-distribution and out-of-distribution rows; by split if the table has its own splits.

    Raises
    ------
    DataError
        If its files are missing; the message says where to get them and where to put them.
    UsageError
        If `rows` is given for a table that is not generated, or is too small.
    """
    if not entry.rows and rows is not None:
        raise UsageError(f"{entry.name} has a fixed number of rows; --rows is for generated tables")
    if entry.rows:
        if (rows := entry.rows if rows is None else rows) < 10:
            raise UsageError(f"{entry.name} needs at least 10 rows, not {rows}")
        return entry.load(rows, np.random.default_rng([seed, zlib.crc32(entry.name.encode())]))
    folder = entry.folder(data_dir)
    if folder is None:
        raise DataError(
            f"{entry.name} is not in {data_dir}: get {' and '.join(entry.files)} from {entry.source} "
            f"and put {'them' if len(entry.files) > 1 else 'it'} into {Path(data_dir) / entry.name}/"
        )
    return entry.load(folder)


def table_noise(width: int, *, kind: str = "gaussian", n: int = ROWS, seed: int = 0) -> np.ndarray:
    """Return rows ``[n, width]`` of noise.

    Parameters
    ----------
    width : int
        Number of columns.
    kind : str
        ``gaussian``: N(0, 1). ``uniform``: U[-5, 5]. ``constant``: one value of U[-5, 5] in all columns of a row.
    n : int
        Number of rows.
    seed : int
        Seed of the generator.

    Raises
    ------
    UsageError
        If the kind is unknown, or `n` is not positive.
    """
    if kind not in NOISES:
        raise UsageError(f"{NOISE}:{kind} is unknown; there are {', '.join(NOISES)}")
    if n < 1:
        raise UsageError(f"{NOISE} needs at least one row")
    generator = np.random.default_rng([seed, NOISES.index(kind)])
    if kind == "gaussian":
        return generator.standard_normal((n, width))
    values = generator.uniform(-5, 5, (n, width if kind == "uniform" else 1))
    return np.broadcast_to(values, (n, width)).copy()


def token_noise(
    tokens: np.ndarray, values: int, *, kind: str = "mutate", rate: float = 0.1, n: int = 0, seed: int = 0
) -> np.ndarray:
    """Return rows of tokens, some of which are replaced by random ones.

    Parameters
    ----------
    tokens : array of shape [N, L]
        Rows of a set.
    values : int
        Number of values of a token.
    kind : str
        ``mutate``: each token of the rows is replaced with probability `rate` by one drawn uniformly, which may be the
        same; with a rate of 1, all tokens are uniform.
    rate : float
        Probability of a replacement.
    n : int
        Number of rows, chosen at random; by default all rows of the set.
    seed : int
        Seed of the generator.

    Returns
    -------
    ndarray
        uint8 ``[n, L]``.

    Raises
    ------
    UsageError
        If the kind is unknown, the rate is not a probability, or `n` exceeds the rows of the set.

    References
    ----------
    Ren et al., Likelihood Ratios for Out-of-Distribution Detection, NeurIPS 2019; they replace by other values only, so
    their rate of 0.1 is 0.1 K / (K - 1) here, with K values.
    """
    if kind not in TOKEN_NOISES:
        raise UsageError(f"{NOISE}:{kind} is unknown for tokens; there are {', '.join(TOKEN_NOISES)}")
    if not 0 <= rate <= 1:
        raise UsageError(f"{NOISE}: rate must be from 0 to 1, not {rate}")
    if n > len(tokens):
        raise UsageError(f"{NOISE} changes the rows of a set of {len(tokens)} rows, which has no {n}")
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(tokens))[: n or None])
    rows = np.asarray(tokens, np.uint8)[chosen]
    drawn = generator.integers(values, size=rows.shape, dtype=np.uint8)
    return np.where(generator.random(rows.shape) < rate, drawn, rows)


def _two_files(folder: Path, files: tuple[str, str], label: str) -> tuple[Table, Table]:
    inside, outside = (read_table(folder / file, label) for file in files)
    # class numbers are written as 0.0, 1.0, ... in these files
    inside = replace(inside, classes=tuple(name.removesuffix(".0") for name in inside.classes))
    return inside, outside.with_columns(inside.columns).outside()


def _sensorless(folder: Path) -> tuple[Table, Table]:
    """Separate the two classes held out by Charpentier et al. (2020)."""
    return separate_classes(read_table(folder / _SENSORLESS_FILES[0], "-1", header=False), ("10", "11"))


def _wine(_: Path) -> tuple[Table, Table]:
    from sklearn.datasets import load_wine

    bunch = load_wine()
    names = tuple(bunch.target_names.tolist())
    table = Table(
        bunch.data, bunch.target.astype(np.int64), columns=tuple(bunch.feature_names), classes=names
    )
    return separate_classes(table, names[-1:])


def _toy(rows: int, generator: np.random.Generator, name: str) -> tuple[Table, Table]:
    """Sample a toy density, and points uniform on the part of its extent less dense than 99 % of the sample."""
    toy = TOYS[name]
    points, labels = toy.sample(rows, generator)
    floor = np.quantile(toy.log_density(points), 0.01)
    left, right, bottom, top = toy.extent
    background, wanted = np.empty((0, 2)), max(rows // 5, 1)
    while len(background) < wanted:
        drawn = generator.uniform((left, bottom), (right, top), (2 * wanted, 2))
        background = np.concatenate([background, drawn[toy.log_density(drawn) < floor]])
    classes = tuple(map(str, range(toy.components)))
    inside = Table(points, labels, columns=("x", "y"), classes=classes)
    return inside, Table(background[:wanted], columns=("x", "y")).outside()


_SEGMENT_FILES = ("segment_scale_sky_missing.csv", "segment_scale_sky_only.csv")
_GAUSSIAN_FILES = ("2DGaussians-0.2.csv", "anomalous-2Ddataset.csv")
_SENSORLESS_FILES = ("Sensorless_drive_diagnosis.txt",)
_POSTNET = "https://github.com/sharpenb/Posterior-Network"
_GENOMICS = "https://github.com/google-research/google-research/tree/master/genomics_ood"
_UCI = "https://archive.ics.uci.edu/dataset/325"

_TABLES = {
    entry.name: entry
    for entry in (
        TableEntry(
            name="segment", title="UCI image segmentation, scaled", source=_POSTNET, width=18, num_classes=6,
            ood="segment-sky", files=_SEGMENT_FILES, load=partial(_two_files, files=_SEGMENT_FILES, label="18"),
        ),
        TableEntry(
            name="sensorless", title="UCI sensorless drive diagnosis", source=_UCI, width=48, num_classes=9,
            ood="sensorless-ood", files=_SENSORLESS_FILES, load=_sensorless, scale="min-max",
        ),
        TableEntry(
            name="gaussian2d", title="Three Gaussians in the plane", source=_POSTNET, width=2, num_classes=3,
            ood="gaussian2d-anomalous", files=_GAUSSIAN_FILES,
            load=partial(_two_files, files=_GAUSSIAN_FILES, label="2"),
        ),
        TableEntry(
            name="genomics", title="Bacterial genomes", source=_GENOMICS, width=250, num_classes=10,
            ood="genomics-ood", files=GENOMICS_FILES, load=load_genomics, divided=True,
        ),
        TableEntry(
            name="wine", title="UCI wine", source="comes with scikit-learn", width=13, num_classes=2,
            ood="wine-class-2", load=_wine, scale="standard",
        ),
        *(
            TableEntry(
                name=toy.name, title=f"Toy density: {toy.name}", source="generated", width=2,
                num_classes=toy.components, ood=f"{toy.name}-background", load=partial(_toy, name=toy.name), rows=ROWS,
            )
            for toy in TOYS.values()
        ),
    )
}  # fmt: skip
