"""The manifest: provenance of a cached FeatureSet, and its fingerprints."""

from __future__ import annotations

__all__ = ["ROWS", "SCHEMA", "Manifest", "differing", "library_versions"]

import dataclasses
import importlib.metadata
import platform
import re
from collections.abc import Mapping
from typing import Any

from featood.cache.stores import STORES, ColumnSpec
from featood.errors import CacheCorrupt, Mismatch, UsageError
from featood.names import check_name, name_problem
from featood.objects import Location
from featood.records import check_record, is_newer, one_of, optional, record_problem, whole
from featood.sealed import digest, read_json
from featood.storage import write_json

SCHEMA = 2
"""Version of the layout: in 2, a column of a block is one piece of a file; in 1, it had chunks of 256 rows."""
FILE = "manifest.json"
ROWS = "rows-"
"""Beginning of the names of folders whose rows replace those of a set."""
AGAIN = "extract this set again with --overwrite, or remove it with featood cache rm"


def _dtype(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"float(16|32|64)|u?int(8|16|32|64)", value)
    return "" if plain else "is no type of a column"


def _columns(value: Any) -> str:
    """Check the columns by name: the shape of a row, with one axis (labels: none), and the type."""
    if not isinstance(value, dict) or not value:
        return "is not a mapping of columns"
    for name, spec in value.items():
        if problem := name_problem(name):
            return f"has a column whose name {problem}"
        if not isinstance(spec, list) or len(spec) != 2 or not isinstance(spec[0], list):
            return f"of {name} is not a shape and a type"
        if len(spec[0]) != (0 if name == "labels" else 1) or any(map(whole(), spec[0])):
            return f"of {name} has a shape that no such column has"
        if _dtype(spec[1]) or (name == "ids" and spec[1] != "uint8"):
            return f"of {name} has a type that no such column has"
    return ""


def _rows_folder(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(rf"({ROWS}[0-9a-f]{{12}})?", value)
    return "" if plain else "is no folder of rows"


def _digest(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"([0-9a-f]{64})?", value)
    return "" if plain else "is no SHA-256"


TRANSFORMS: dict[str, dict[Any, Any]] = {
    "": {
        "channels": whole(1),
        "height": whole(1),
        "width": whole(1),
        "mean": [(int, float)],
        "std": [(int, float)],
        "interpolation?": str,
        ...: object,
    },
    "texts": {"tokenizer": str, "max_length": whole(1), ...: object},
    "recordings": {"rate": whole(1), "seconds": (int, float), ...: object},
}
"""Schemas of transforms by their kind, which those of images leave out."""


def _transform(value: Any) -> str:
    kind = value.get("kind", "") if isinstance(value, dict) else ""
    if not isinstance(kind, str) or kind not in TRANSFORMS:
        return "is of a kind that this version does not know"
    field, problem = record_problem(value, TRANSFORMS[kind])
    return f"{field} {problem}".strip() if problem else ""


RECIPE = {
    "backbone?": str,
    "weights_sha256?": str,
    "main?": str,
    "dtype?": str,
    "precision?": str,
    "transform?": _transform,
    "extras?": {str: {str: object}},
    "columns?": {str: list},
    "map_shape?": [whole(1)],
    "members?": [str],
    "table?": {
        "columns": [str],
        "classes": [str],
        "scale": {"kind": str, ...: object},
        ...: object,
    },
    ...: object,
}
RUN = {
    "created?": str,
    "name?": str,
    "role?": str,
    "dataset?": str,
    "data_dir?": str,
    "weights?": str,
    "weights_file?": str,
    "seed?": whole(0, 2**63),
    "arch_options?": {str: object},
    "taps?": [str],
    "pools?": optional([str]),
    "outputs?": str,
    "batch_size?": whole(1),
    "classes?": [str],
    "decoding?": {"bits?": whole(8, 16), "upright?": bool},
    "inputs_stamp?": str,
    "taken_over?": {"rows": whole(), ...: object},
    "members?": [str],
    "titles?": {str: [str]},
    "table?": {"left_out?": [str], ...: object},
    ...: object,
}
NO_VALUES = ("run", "store", "schema", "rows_folder")
"""Fields that do not determine the stored values."""
FIELDS = {
    "schema": whole(1),
    "recipe": RECIPE,
    "data": {"dataset": str, "split": str, "inputs_sha256": str, ...: object},
    "columns": _columns,
    "rows": whole(1),
    "store": one_of(STORES),
    "main": str,
    "block_rows": whole(1),
    "versions": {str: str},
    "classifier_sha256": _digest,
    "run": RUN,
    "rows_folder?": _rows_folder,
    "fingerprint": str,
    "backbone_fingerprint": str,
}
"""Schema of the file; see `featood.records`."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Provenance and layout of one cached FeatureSet.

    Parameters
    ----------
    recipe : mapping
        Everything that determines the features of an input: backbone, SHA-256 of the weights, taps,
        pooling, transform, precision, dtype. Sets with equal recipes can be scored by the same head.
    data : mapping
        Dataset, split, and the SHA-256 of the list of inputs.
    columns : mapping of str to ColumnSpec
        Name, row shape and dtype of each stored column.
    rows, block_rows : int
        Number of rows, and rows in a block.
    store : str
        ``zarr`` or ``hdf5``; not part of the fingerprint, because both contain the same values.
    main : str
        The feature column that is the classifier's input.
    versions : mapping
        Versions of the libraries that made the features.
    classifier_sha256 : str
        Digest of ``classifier.safetensors``; empty without a classifier.
    run : mapping
        Information for repeating the extraction that does not affect its values (paths, device, time, class names).
    schema : int
        Version of the layout of the files; not part of the fingerprint either.
    rows_folder : str
        Folder of rows and classifier inside that of the set, after rows were appended; otherwise empty, for that of the
        set. Not part of the fingerprint either.
    """

    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    columns: Mapping[str, ColumnSpec]
    rows: int
    store: str
    main: str
    block_rows: int = 4096
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    classifier_sha256: str = ""
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schema: int = SCHEMA
    rows_folder: str = ""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UsageError(f"{self.data.get('dataset', 'the set')} has no rows; there is nothing to store")
        if self.block_rows < 1:
            raise UsageError("a block needs at least one row")
        for name in self.columns:
            check_name(name, "a column")

    @property
    def backbone_fingerprint(self) -> str:
        """SHA-256 of the recipe: equal for all sets extracted with the same backbone and settings."""
        return digest(self.recipe)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the stored values."""
        body = self.as_json()
        return digest({key: body[key] for key in body if key not in NO_VALUES})

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers; empty if unknown."""
        return tuple(self.run.get("classes") or self.recipe.get("table", {}).get("classes", ()))

    @property
    def dataset(self) -> str:
        """Name of the dataset that the rows come from."""
        return str(self.data["dataset"])

    @property
    def split(self) -> str:
        """Name of the split of that dataset."""
        return str(self.data["split"])

    @property
    def inputs_sha256(self) -> str:
        """SHA-256 of the list of inputs; empty if unknown."""
        return str(self.data.get("inputs_sha256", ""))

    @property
    def role(self) -> str:
        """``ood`` for a set that was only made to be scored against; otherwise empty."""
        return str(self.run.get("role", ""))

    @property
    def network(self) -> str:
        """Name of the network or other source of the features."""
        return str(self.run.get("name", ""))

    @property
    def members(self) -> tuple[str, ...]:
        """Backbones from whose sets this one was computed, joined or with a classifier added; empty for other sets."""
        return tuple(self.run.get("members", ()))

    @property
    def random_weights(self) -> bool:
        """Whether the network has random weights, so that scores are meaningless."""
        return self.run.get("weights") == "random"

    @property
    def table(self) -> Mapping[str, Any] | None:
        """Columns, classes and scale of a table; None if the rows are not from a table."""
        return self.recipe.get("table")

    @property
    def blocks(self) -> int:
        """Number of row blocks."""
        return -(-self.rows // self.block_rows)

    def as_json(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        body = dataclasses.asdict(self)
        body["columns"] = {name: [list(spec.shape), spec.dtype] for name, spec in self.columns.items()}
        if not self.rows_folder:
            del body["rows_folder"]
        return body

    def save(self, folder: Location) -> None:
        """Write ``manifest.json`` atomically."""
        body = self.as_json()
        prints = {"fingerprint": self.fingerprint, "backbone_fingerprint": self.backbone_fingerprint}
        write_json(folder / FILE, {**body, **prints})

    @classmethod
    def load(cls, folder: Location) -> Manifest:
        """Read ``manifest.json``.

        Raises
        ------
        CacheCorrupt
            If it is missing or altered, or a field has an invalid value.
        Mismatch
            If it was written by a newer featood.
        """
        path = folder / FILE
        body = read_json(path)
        if is_newer(body.get("schema"), SCHEMA):
            raise Mismatch(f"{folder} was written by a newer featood; upgrade with pip install -U featood")
        check_record(body, FIELDS, path, AGAIN)
        features = [name for name in body["columns"] if name not in ("logits", "labels", "ids")]
        if body["main"] not in (features or [""]):
            raise CacheCorrupt(
                f"{path}: main is {body['main'][:80]!r}, which is no column of features; {AGAIN}"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        specs = {name: ColumnSpec(tuple(shape), dtype) for name, (shape, dtype) in body["columns"].items()}
        return cls(**{**{name: value for name, value in body.items() if name in known}, "columns": specs})


def differing(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any], prefix: str = "") -> str:
    """Return the names of the entries in which two records differ, comma-separated; empty if one is unknown."""
    names = sorted({*ours, *theirs}) if ours and theirs else []
    return ", ".join(f"{prefix}{name}" for name in names if (ours or {}).get(name) != theirs.get(name))


def library_versions() -> dict[str, str]:
    """Versions of Python, featood and the libraries whose arithmetic affects the features."""
    versions = {"python": platform.python_version()}
    for package in ("featood", "torch", "torchvision", "timm", "numpy", "pillow"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
