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

from featood.cache.feature_cache import FeatureCache
from featood.cache.feature_set import Classifier, FeatureSet
from featood.cache.manifest import Manifest, library_versions
from featood.cache.reader import encode_ids
from featood.cache.stores import ColumnSpec
from featood.cache.writer import SetWriter
from featood.errors import DataError, UsageError
from featood.files import atomic_write


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
        When the file is missing, damaged, or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
        if isinstance(loaded, np.ndarray):
            return {key or path.stem: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # three libraries, each with its own types
        raise DataError(f"{path} is not a plain .npy, .npz or .safetensors array file ({error})") from None


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
        When shapes disagree or values are not finite.
    """
    classifier = None if classifier is None else Classifier(*classifier)
    given = FeatureSet(features, logits=logits, labels=labels, classifier=classifier, main=main, name=key)
    if classifier is not None and logits is None:
        given = _with_logits(given)
    columns: dict[str, Any] = {name: np.asarray(values) for name, values in given.features.items()}
    columns = {
        name: values if values.dtype.kind == "f" else values.astype("f4") for name, values in columns.items()
    }
    columns = {
        name: values.astype("f4") if values.itemsize > 4 else values for name, values in columns.items()
    }
    if given.logits is not None:
        columns["logits"] = np.asarray(given.logits, dtype="f4")
    if given.labels is not None:
        columns["labels"] = np.asarray(given.labels, dtype="i8")
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


ROW_DATA = ("logits", "labels", "ids")


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
    """
    columns: dict[str, Any] = {}
    for given in features:
        name, _, path = given.rpartition("=")
        arrays = read_array(path, name or "features")
        columns |= {name: next(iter(arrays.values()))} if name and len(arrays) == 1 else arrays
    linear = None
    if classifier:
        parts = read_array(classifier)
        if "weight" not in parts:
            raise DataError(f"{classifier} must hold an array named weight (it has: {', '.join(parts)})")
        linear = Classifier(parts["weight"], parts.get("bias", np.zeros(len(parts["weight"]), "f4")))

    def single(path: str | None, key: str) -> Any:
        if path is None:
            return columns.pop(key, None)
        arrays = read_array(path, key)
        return arrays.get(key, next(iter(arrays.values())))

    return import_arrays(
        cache, key, columns, single(logits, "logits"), single(labels, "labels"), linear, **options
    )


def _with_logits(given: FeatureSet) -> FeatureSet:
    weight, bias = (np.asarray(part, dtype="f4") for part in given.classifier or ())
    features = np.asarray(given.feature(), dtype="f4")
    if weight.ndim != 2 or weight.shape[1] != features.shape[1]:
        raise DataError(f"classifier {list(weight.shape)} does not fit features {list(features.shape)}")
    return dataclasses.replace(given, logits=features @ weight.T + bias)


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
    with SetWriter(destination, manifest, None) as writer:
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
