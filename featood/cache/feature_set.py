"""FeatureSet: N aligned rows of cached features, logits, labels and ids, in memory or on disk."""

from __future__ import annotations

__all__ = ["Classifier", "FeatureSet", "as_feature_set"]

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from featood.cache.columns import StoredColumn
from featood.cache.read_ahead import read_ahead
from featood.errors import DataError, UsageError
from featood.readers.arrays import as_array, is_foreign

if TYPE_CHECKING:
    import torch

    from featood.cache.columns import Column
    from featood.cache.manifest import Manifest

ROWS = 4096
"""Default number of rows in a block, which bounds the memory of every pass."""


class Classifier(NamedTuple):
    """The backbone's last linear layer: ``logits = features @ weight.T + bias``."""

    weight: Any
    """``[C, D]``"""
    bias: Any
    """``[C]``"""


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """N aligned rows, each column an array, a tensor, or a column read from disk on demand.

    Parameters
    ----------
    features : mapping of str to array
        Name to ``[N, D]`` floats, such as ``avg``, ``std`` or ``layer3.avg``; lists and data frames become arrays.
    logits : array, optional
        ``[N, C]``.
    labels : array, optional
        ``[N]`` integers; negative if the class is unknown. Other labels, such as names, are encoded as integers; see
        :func:`featood.readers.class_labels`.
    ids : array, optional
        ``[N]`` names of the inputs.
    classifier : Classifier or pair, optional
        Weight ``[C, D]`` and bias ``[C]`` of the layer that computes the logits.
    main : str
        The feature column that is the classifier's input; by default the first column.
    fingerprint : str
        Fingerprint of the backbone, weights, taps and transform of the features; empty if unknown.
    name : str
        ``backbone/dataset/split`` for messages.

    Raises
    ------
    DataError
        If columns have different row counts or wrong ranks, or labels are not classes.
    """

    features: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    logits: Column | None = None
    labels: Column | None = None
    ids: Column | None = None
    classifier: Classifier | tuple[Any, Any] | None = None
    main: str = ""
    fingerprint: str = ""
    name: str = "features"
    classes: tuple[str, ...] = ()
    """Name of each class index; empty where the names are unknown."""
    left_out: int = 0
    """Inputs that could not be read, and so have no row."""
    origin: Manifest | None = None
    """The manifest of a set that was extracted or comes from a cache."""
    content: str = ""
    """SHA-256 over the checksums of all columns, for a complete set from a cache."""

    def __post_init__(self) -> None:
        if not isinstance(self.features, Mapping):
            kind = type(self.features).__name__
            raise DataError(f"{self.name}: features are columns by name, such as {{'avg': rows}}, not {kind}")
        columns = {name: as_array(values, name) for name, values in self.features.items()}
        object.__setattr__(self, "features", columns)
        object.__setattr__(self, "logits", as_array(self.logits, "logits"))
        if is_foreign(self.ids):
            object.__setattr__(self, "ids", np.asarray(self.ids))
        self._number_classes()
        if self.classifier is not None:
            object.__setattr__(self, "classifier", Classifier(*self.classifier))
        if not self.main and self.features:
            object.__setattr__(self, "main", next(iter(self.features)))
        lengths = {}
        for column, values, rank in self._columns():
            if len(values.shape) != rank:
                shape = tuple(values.shape)
                raise DataError(f"{self.name}: column '{column}' has shape {shape}, expected {rank} axes")
            lengths[column] = values.shape[0]
        if not lengths:
            raise DataError(f"{self.name}: a FeatureSet needs at least one column")
        if any(rows != lengths[column] for rows in lengths.values()):
            counts = ", ".join(f"{column} {n}" for column, n in lengths.items())
            raise DataError(f"{self.name}: columns differ in their number of rows ({counts})")

    def _number_classes(self) -> None:
        """Encode labels of other types as class numbers; integer labels, such as those on disk, are not read."""
        labels: Any = self.labels
        if labels is None or (
            not is_foreign(labels) and "int" in str(labels.dtype) and len(labels.shape) == 1
        ):
            return
        from featood.readers.labels import class_labels

        try:
            numbers, names = class_labels(labels, self.classes)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from None
        object.__setattr__(self, "labels", numbers)
        object.__setattr__(self, "classes", names or self.classes)

    def _columns(self) -> Iterator[tuple[str, Column, int]]:
        for name, values in self.features.items():
            yield name, values, 2
        for name, rank in (("logits", 2), ("labels", 1), ("ids", 1)):
            if (values := getattr(self, name)) is not None:
                yield name, values, rank

    def __len__(self) -> int:
        return int(next(self._columns())[1].shape[0])

    def __repr__(self) -> str:
        columns = ", ".join(f"{name}{list(values.shape[1:])}" for name, values, _ in self._columns())
        return f"FeatureSet({self.name}: {len(self)} rows; {columns})"

    def _repr_html_(self) -> str:
        """Return the columns as a table for notebooks."""
        from featood.notebook import html_table

        rows = [
            (name, "x".join(map(str, values.shape[1:])) or "-", str(values.dtype).removeprefix("torch."))
            for name, values, _ in self._columns()
        ]
        return html_table(f"{self.name}: {len(self):,} rows", ("column", "values per row", "type"), rows)

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the classifier; None without logits and classifier."""
        if self.logits is not None:
            return int(self.logits.shape[1])
        return None if self.classifier is None else len(self.classifier[1])

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Recipe of the features of a set from a cache; empty for other sets."""
        return self.origin.recipe if self.origin else {}

    @property
    def inputs_sha256(self) -> str:
        """Digest of the list of inputs of a set from a cache; empty if unknown."""
        return self.origin.inputs_sha256 if self.origin else ""

    def feature(self, name: str = "") -> Column:
        """Return one feature column, by default the classifier's input.

        Raises
        ------
        UsageError
            If the set has no such column; the message lists the existing ones.
        """
        name = name or self.main
        if name not in self.features:
            have = ", ".join(self.features) or "none"
            raise UsageError(
                f"{self.name} has no feature column '{name}' (it has: {have}); "
                "columns are extracted (--tap, --pool, --maps, --with) or imported"
            )
        return self.features[name]

    def select(self, *columns: str) -> FeatureSet:
        """Return the set with only the named columns (feature names, ``logits``, ``labels``, ``ids``)."""
        features = {name: self.feature(name) for name in columns if name not in ("logits", "labels", "ids")}
        kept: dict[str, Any] = {
            name: getattr(self, name) if name in columns else None for name in ("logits", "labels", "ids")
        }
        main = self.main if self.main in features else ""
        return dataclasses.replace(self, features=features, main=main, **kept)

    def rows(self, rows: Any) -> FeatureSet:
        """Return the rows of a slice or an index array."""
        features = {name: values[rows] for name, values in self.features.items()}
        others: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[rows]
            for name in ("logits", "labels", "ids")
        }
        return dataclasses.replace(self, features=features, content="", **others)

    def blocks(self, size: int = ROWS) -> Iterator[FeatureSet]:
        """Iterate over row blocks as FeatureSets of torch tensors; memory depends on `size`, never on N.

        Columns on disk are read one block ahead, in a thread.
        """
        reads = [functools.partial(self._block, start, size) for start in range(0, len(self), size)]
        stored = any(isinstance(values, StoredColumn) for _, values, _ in self._columns())
        return read_ahead(reads) if stored and len(reads) > 1 else (read() for read in reads)

    def _block(self, start: int, size: int) -> FeatureSet:
        return self.rows(slice(start, start + size)).to_torch()

    def to_torch(self) -> FeatureSet:
        """Read every column into torch tensors (ids stay a NumPy array)."""
        features = {name: _tensor(values) for name, values in self.features.items()}
        return dataclasses.replace(
            self,
            features=features,
            logits=None if self.logits is None else _tensor(self.logits),
            labels=None if self.labels is None else _tensor(self.labels).long(),
            ids=None if self.ids is None else np.asarray(self.ids[:]),
        )


def as_feature_set(data: Any, labels: Any = None) -> FeatureSet:
    """Return a FeatureSet unchanged, and ``[N, D]`` rows (array, tensor, list, data frame) as a set of one column."""
    if isinstance(data, FeatureSet):
        return data
    return FeatureSet({"features": data}, labels=labels)


def _tensor(values: Any) -> torch.Tensor:
    import torch

    if isinstance(values, torch.Tensor):
        return values.detach()
    array = np.asarray(values[:])
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise DataError(f"a column of {array.dtype} is not numeric")
    native = array.dtype.newbyteorder("=")
    array = np.ascontiguousarray(array, dtype=native)
    # torch warns about read-only arrays, which it might modify; a block is cheap to copy
    return torch.from_numpy(array if array.flags.writeable else array.copy())
