"""Getting sets into and out of the cache: embeddings made elsewhere, copies between stores, npy files."""

from __future__ import annotations

__all__ = ["export_set", "import_arrays", "import_files", "read_array"]

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache.feature_cache import FeatureCache, slug
from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.manifest import Manifest, library_versions
from featood.cache.reader import encode_ids
from featood.cache.stores import ColumnSpec
from featood.cache.writer import SetWriter
from featood.errors import DataError, Mismatch, UsageError
from featood.files import atomic_write

ROW_DATA = ("logits", "labels", "ids")
MAX_CLASSES = 1_000_000
"""Class numbers end below this: heads keep statistics of every class up to the highest number."""


def read_array(path: str | Path, key: str = "") -> dict[str, np.ndarray]:
    """Read named arrays from an ``.npy``, ``.npz`` or ``.safetensors`` file, without running any code in it.

    Parameters
    ----------
    path : path
        The file; ``.npy`` holds one array, which is named by `key`.
    key : str
        Name for the array of an ``.npy`` file.

    Raises
    ------
    DataError
        When the file is missing, damaged, empty, or holds Python objects.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; name an array file in it")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            arrays = dict(load_file(path))
        else:
            loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
            if isinstance(loaded, np.ndarray):
                return {key or path.stem: loaded}
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # three libraries, each with its own types
        raise DataError(f"{path} is not a plain .npy, .npz or .safetensors array file ({error})") from None
    if not arrays:
        raise DataError(f"{path} holds no array")
    return arrays


def import_arrays(
    cache: FeatureCache,
    key: str,
    features: Mapping[str, Any],
    logits: Any = None,
    labels: Any = None,
    classifier: Classifier | None = None,
    main: str = "",
    store: str = "zarr",
    overwrite: bool = False,
    run: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    ids: Any = None,
) -> FeatureSet:
    """Store embeddings made elsewhere (text, audio, tables, any vectors) as a set of the cache.

    Parameters
    ----------
    cache : FeatureCache
        Where to.
    key : str
        ``backbone/dataset/split``; sets of one backbone name can be scored by the same heads.
    features : mapping of str to array
        ``[N, D]`` each.
    logits, labels : array, optional
        ``[N, C]`` and ``[N]``.
    classifier : Classifier, optional
        Weight ``[C, D]`` and bias ``[C]``; with it and without `logits`, the logits are computed.
    main : str
        The column that feeds the classifier; the first one where not given.
    store : str
        ``zarr`` or ``hdf5``.
    overwrite : bool
        Replace a set of this name.
    run : mapping, optional
        Further facts for the manifest, such as its role.
    recipe : mapping, optional
        Further facts that decide the features, such as their scale; heads refuse sets that differ in them.
    ids : array, optional
        What each row is called; its number, where not given.

    Raises
    ------
    DataError
        When shapes disagree, values are not numbers, not finite or beyond float32, or labels number no classes.
    UsageError
        When a column cannot be called so.
    """
    given = FeatureSet(features, logits=logits, labels=labels, main=main, name=key)
    if not given.features and logits is None:
        raise DataError(f"{key}: there are labels but no features; name an array [N, D] as well")
    for name in given.features:
        if name in ROW_DATA or slug(name) != name:
            raise UsageError(
                f"a column of features cannot be called '{name}'; choose another name of letters, digits, '.', "
                "'_' and '-'"
            )
    columns = {name: _reals(name, values) for name, values in given.features.items()}
    if logits is not None:
        columns["logits"] = _reals("logits", logits).astype("f4", copy=False)
    if classifier is not None:
        classifier = _fitting(classifier, given)
        if logits is None:
            main_values = columns[given.main].astype("f4", copy=False)
            columns["logits"] = _reals("logits", main_values @ classifier.weight.T + classifier.bias)
    if labels is not None:
        columns["labels"] = _class_numbers(labels)
    names = [str(name) for name in (range(len(given)) if ids is None else ids)]
    columns["ids"] = encode_ids(
        names, max((len(name.encode("utf-8", "surrogateescape")) for name in names), default=1)
    )

    made: dict[str, Any] = {"backbone": f"import:{key.split('/')[0]}", "main": given.main, **(recipe or {})}
    made["columns"] = {
        name: list(values.shape[1:]) for name, values in columns.items() if name not in ROW_DATA
    }
    inputs = hashlib.sha256()
    for name, values in columns.items():
        inputs.update(name.encode())
        inputs.update(np.ascontiguousarray(values).view(np.uint8).data)
    manifest = Manifest(
        recipe=made,
        data={"dataset": key.split("/")[1], "split": key.split("/")[2], "inputs_sha256": inputs.hexdigest()},
        columns={name: ColumnSpec(values.shape[1:], str(values.dtype)) for name, values in columns.items()},
        rows=len(given),
        store=store,
        main=given.main,
        versions=library_versions(),
        run=run or {},
    )
    with cache.writer(key, manifest, classifier, overwrite) as writer:
        for block in writer.pending():
            rows = writer.span(block)
            writer.write(block, {name: values[rows] for name, values in columns.items()})
        return writer.finish(key)


def import_files(
    cache: FeatureCache,
    key: str,
    features: Sequence[str],
    logits: str | None = None,
    labels: str | None = None,
    classifier: str | None = None,
    **options: Any,
) -> FeatureSet:
    """Store embeddings that lie in array files; see :func:`import_arrays`.

    Parameters
    ----------
    cache, key, options
        As there.
    features : sequence of str
        Files, or ``NAME=FILE``; arrays called ``logits`` and ``labels`` in them are taken as such.
    logits, labels : str, optional
        Files of one array.
    classifier : str, optional
        File with arrays ``weight`` and, where there is one, ``bias``.

    Raises
    ------
    DataError
        When a file is missing or is no plain array file, or as :func:`import_arrays`.
    UsageError
        When a column is given twice, or without a name or a file.
    """
    columns: dict[str, Any] = {}
    for given in features:
        name, named, path = given.rpartition("=")
        if not path or (named and not name.strip()):
            raise UsageError(f"--features takes FILE or NAME=FILE, not '{given}'")
        arrays = read_array(path, name or "features")
        if name and len(arrays) == 1:
            arrays = {name: next(iter(arrays.values()))}
        if twice := [column for column in arrays if column in columns]:
            raise UsageError(
                f"--features gives the column '{twice[0]}' twice; name each one NAME=FILE, or leave one out"
            )
        columns |= arrays
    linear = None
    if classifier:
        parts = read_array(classifier)
        if "weight" not in parts:
            raise DataError(f"{classifier} must hold an array named weight (it has: {', '.join(parts)})")
        linear = Classifier(parts["weight"], parts.get("bias", np.zeros(np.shape(parts["weight"])[:1], "f4")))

    def single(path: str | None, key: str) -> Any:
        if path is None:
            return columns.pop(key, None)
        if key in columns:
            raise UsageError(f"--features holds {key} as well; leave out one of them and --{key}")
        arrays = read_array(path, key)
        if key not in arrays and len(arrays) > 1:
            raise DataError(f"{path} holds several arrays ({', '.join(arrays)}); call the one to take {key}")
        return arrays.get(key, next(iter(arrays.values())))

    return import_arrays(
        cache, key, columns, single(logits, "logits"), single(labels, "labels"), linear, **options
    )


def _reals(name: str, given: Any) -> np.ndarray:
    """Return float16 or float32 values, once nothing is lost by it that a user would miss."""
    values = np.asarray(given)
    if values.dtype.kind == "c":
        raise DataError(
            f"'{name}' holds complex numbers; give real ones, such as np.hstack([x.real, x.imag])"
        )
    if values.dtype.kind not in "fiub":
        raise DataError(f"'{name}' holds values of type {values.dtype}, which are not numbers")
    if not values.size:
        raise DataError(f"'{name}' has no rows or no columns: its shape is {list(values.shape)}")
    with np.errstate(over="ignore"):  # of the other byte order neither type compares equal
        stored = values if values.dtype in ("f2", "f4") else values.astype("f4")
    if np.isfinite([stored.min(), stored.max()]).all():  # which NaN passes through; no mask of all values
        return stored
    bad = ~np.isfinite(stored).all(axis=tuple(range(1, stored.ndim)))
    row = int(np.argmax(bad))
    cause = "are not finite; mend them or leave them out"
    if np.isfinite(values[row]).all():
        cause = "are beyond float32, which ends at 3.4e38; rescale them (a table: --scale min-max)"
    raise DataError(f"'{name}': values of {int(bad.sum())} rows (first: row {row}) {cause}")


def _class_numbers(given: Any) -> np.ndarray:
    """Return labels as int64; a split may lack classes, but their numbers are not just any identifiers."""
    labels = np.asarray(given)
    if (highest := int(labels.max())) >= MAX_CLASSES:
        raise DataError(
            f"labels reach {highest}, but number the classes from 0 to C - 1, below {MAX_CLASSES:,}; "
            "renumber them, as np.unique(labels, return_inverse=True) does"
        )
    return labels.astype("i8", copy=False)


def _fitting(classifier: Classifier | tuple[Any, Any], given: FeatureSet) -> Classifier:
    weight, bias = map(_reals, Classifier._fields, classifier)
    features = given.feature()
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.shape[1] != features.shape[1]:
        raise DataError(
            f"a classifier of weight {list(weight.shape)} and bias {list(bias.shape)} does not fit features "
            f"{list(features.shape)}: it needs [C, D] and [C]"
        )
    return Classifier(weight.astype("f4", copy=False), bias.astype("f4", copy=False))


def export_set(cache: FeatureCache, key: str, target: Path, form: str) -> Path:
    """Copy a set out of the cache.

    Parameters
    ----------
    cache : FeatureCache
        Where the set is.
    key : str
        ``backbone/dataset/split``.
    target : Path
        A cache root for ``zarr`` and ``hdf5``; an empty folder for ``npy``.
    form : str
        ``zarr`` or ``hdf5`` (another cache with the same values), or ``npy`` (one file a column, with the
        classifier and the manifest beside them).

    Returns
    -------
    Path
        The folder that was written.

    Raises
    ------
    UsageError
        When the target is in use by something else.
    """
    source = cache[key]
    if form == "npy":
        return _export_npy(source, target / key.replace("/", "-"))
    if target.resolve() == cache.root.resolve():
        raise UsageError("export into the cache itself would replace the set; name another folder")
    folder = cache.folder(*key.split("/"))
    there = Manifest.load(folder)
    copy = FeatureCache(target)
    destination = copy.folder(*key.split("/"))
    manifest = dataclasses.replace(there, store=form)
    try:
        opened = SetWriter(destination, manifest, None)
    except Mismatch:
        raise Mismatch(f"{destination} holds another set of this name; name another folder") from None
    with opened as writer:
        if there.classifier_sha256:
            content = (folder / "classifier.safetensors").read_bytes()
            atomic_write(destination / "classifier.safetensors", content)
        from featood.cache.reader import open_blocks

        _, reader = open_blocks(folder)
        for block in writer.pending():
            columns = {name: reader(name, block) for name in there.columns}
            writer.write(block, columns, reader.commits[block]["failed"])
        writer.finish(key)
    return destination


def _export_npy(source: FeatureSet, folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {**source.features, "logits": source.logits, "labels": source.labels}
    for name, column in columns.items():
        if column is None:
            continue
        out = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", column.dtype, tuple(column.shape))
        for start in range(0, len(source), 4096):
            out[start : start + 4096] = column[start : start + 4096]
        out.flush()
    if source.ids is not None:
        np.save(folder / "ids.npy", np.asarray(source.ids[:]).astype(str))
    if source.classifier is not None:
        np.savez(folder / "classifier.npz", weight=source.classifier[0], bias=source.classifier[1])
    (folder / "manifest.json").write_text(json.dumps(source.origin, indent=1))
    return folder
