"""Import and export of sets: embeddings computed elsewhere, copies between stores, npy files."""

from __future__ import annotations

__all__ = ["export_set", "import_arrays"]

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from featood.cache.additions import TAKEN_OVER, check_alike, facts_of, same_classifier, with_rows_before
from featood.cache.feature_cache import FeatureCache, slug
from featood.cache.feature_set import ROWS, Classifier, FeatureSet
from featood.cache.manifest import SCHEMA, Manifest, library_versions
from featood.cache.reader import CLASSIFIER, encode_ids
from featood.cache.stores import ColumnSpec
from featood.cache.writer import SetWriter
from featood.errors import DataError, Mismatch, UsageError
from featood.files import create, scratch_folder
from featood.names import local_path, name_problem
from featood.objects import Location
from featood.readers import class_labels, listed
from featood.reporter import SILENT, Reporter
from featood.storage import atomic_write

ROW_DATA = ("logits", "labels", "ids")


def import_arrays(
    cache: FeatureCache,
    key: str,
    features: Mapping[str, Any],
    logits: Any = None,
    labels: Any = None,
    classifier: Classifier | None = None,
    *,
    main: str = "",
    store: str = "zarr",
    overwrite: bool = False,
    run: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    ids: Any = None,
    classes: Sequence[str] = (),
    append: bool = False,
    reporter: Reporter = SILENT,
) -> FeatureSet:
    """Store embeddings computed elsewhere (text, audio, tables, any vectors) as a set of the cache.

    Parameters
    ----------
    cache : FeatureCache
        Target cache.
    key : str
        ``backbone/dataset/split``; sets of one backbone name can be scored by the same heads.
    features : mapping of str to array
        Arrays ``[N, D]`` by column name.
    logits : array, optional
        ``[N, C]``.
    labels : array or list, optional
        ``[N]``, of any type accepted by :func:`featood.readers.class_labels`; classes are numbered as in the
        other splits of the dataset.
    classifier : Classifier, optional
        Weight ``[C, D]`` and bias ``[C]``; with it and without `logits`, the logits are computed.
    main : str
        The column that is the classifier's input; by default the first one.
    store : str
        ``zarr`` or ``hdf5``.
    overwrite : bool
        Replace a set of this name.
    run : mapping, optional
        Further facts for the manifest, such as its role.
    recipe : mapping, optional
        Further facts that determine the features, such as their scale; heads refuse sets that differ in them.
    ids : array, optional
        Name of each row; by default its number.
    classes : sequence of str
        Class names for integer labels.
    append : bool
        Add the rows to the set of this name, if there is one, which remains as it is until all are stored. The result
        is that of an import of all rows at once, apart from the rounding of logits that a classifier computes. Rows
        that the set has are left out; see :func:`featood.cache.additions.new_rows`.
    reporter : Reporter
        Receives a line about the rows that are added.

    Raises
    ------
    Mismatch
        If the cache contains another set of this name; or, to append, its columns, recipe or classifier are others.
    DataError
        If shapes disagree, values are not numbers, not finite or exceed float32, or labels are not classes of the
        other splits (in a set with the role ``ood``, such rows count as unknown).
    UsageError
        If a column name is not valid.
    """
    if append and overwrite:
        raise UsageError("--append keeps the rows of a set, and --overwrite replaces them; give one of them")
    before = cache[key] if append and cache.entry(key) is not None else None
    facts = dict(run or {})
    if before is not None:
        facts = {**facts_of(before), **facts, TAKEN_OVER: {"rows": len(before)}}
        main, classifier = main or before.main, same_classifier(before, classifier)
    if labels is not None:
        labels, classes = _class_numbers(cache, key, labels, classes, facts.get("role") == "ood", append)
        facts |= {"classes": list(classes)} if classes else {}
    given = FeatureSet(features, logits=logits, labels=labels, main=main, name=key)
    if not given.features and logits is None:
        raise DataError(f"{key}: there are labels but no features; also give an array [N, D]")
    for name in given.features:
        if name in ROW_DATA or name_problem(name) or slug(name) != name:
            raise UsageError(
                f"a column of features cannot be called '{name}'; choose another name of letters, digits, '.', "
                "'_' and '-'"
            )
    columns: dict[str, Any] = {name: _reals(name, values) for name, values in given.features.items()}
    if logits is not None:
        columns["logits"] = _reals("logits", given.logits).astype("f4", copy=False)
    if classifier is not None:
        classifier = _fitting(classifier, given)
        if logits is None:
            main_values = columns[given.main].astype("f4", copy=False)
            columns["logits"] = _reals("logits", main_values @ classifier.weight.T + classifier.bias)
    if labels is not None:
        columns["labels"] = labels
    names = None if ids is None else [str(name) for name in ids]
    if before is not None:
        computed = ("logits",) if logits is None else ()
        columns, names = with_rows_before(before, columns, names, computed, reporter)
    rows = next(iter(columns.values())).shape[0]
    names = list(map(str, range(rows))) if names is None else names
    columns["ids"] = encode_ids(
        names, max((len(name.encode("utf-8", "surrogateescape")) for name in names), default=1)
    )

    made: dict[str, Any] = {"backbone": f"import:{key.split('/')[0]}", "main": given.main, **(recipe or {})}
    made["columns"] = {
        name: list(values.shape[1:]) for name, values in columns.items() if name not in ROW_DATA
    }
    if before is not None:
        check_alike(before, made, store)
        if rows == len(before):
            return before
    inputs = hashlib.sha256()
    for name, values in columns.items():
        inputs.update(name.encode())
        for start in range(0, rows, ROWS):
            inputs.update(np.ascontiguousarray(values[start : start + ROWS]).view(np.uint8).data)
    manifest = Manifest(
        recipe=made,
        data={"dataset": key.split("/")[1], "split": key.split("/")[2], "inputs_sha256": inputs.hexdigest()},
        columns={name: ColumnSpec(values.shape[1:], str(values.dtype)) for name, values in columns.items()},
        rows=rows,
        store=store,
        main=given.main,
        versions=library_versions(),
        run=facts,
    )
    with cache.writer(key, manifest, classifier, overwrite, before.origin if before else None) as writer:
        for block in writer.pending():
            span = writer.span(block)
            writer.write(block, {name: values[span] for name, values in columns.items()})
        return writer.finish(key)


def _reals(name: str, given: Any) -> np.ndarray:
    """Convert values to float16 or float32, after checking that no information is lost."""
    values = np.asarray(given)
    if values.dtype.kind == "c":
        raise DataError(
            f"'{name}' holds complex numbers; give real ones, such as np.hstack([x.real, x.imag])"
        )
    if values.dtype.kind not in "fiub":
        raise DataError(f"'{name}' holds values of type {values.dtype}, which are not numbers")
    if not values.size:
        raise DataError(f"'{name}' has no rows or no columns: its shape is {list(values.shape)}")
    with np.errstate(over="ignore"):  # a dtype with the other byte order does not compare equal
        stored = values if values.dtype in ("f2", "f4") else values.astype("f4")
    if np.isfinite(
        [stored.min(), stored.max()]
    ).all():  # NaN propagates through min and max, so no mask of all values is needed
        return stored
    bad = ~np.isfinite(stored).all(axis=tuple(range(1, stored.ndim)))
    row = int(np.argmax(bad))
    cause = "are not finite; fix or remove them"
    if np.isfinite(values[row]).all():
        cause = "are beyond float32, whose maximum is 3.4e38; rescale them (a table: --scale min-max)"
    raise DataError(f"'{name}': values of {int(bad.sum())} rows (first: row {row}) {cause}")


def _known_classes(cache: FeatureCache, key: str, append: bool) -> tuple[str, tuple[str, ...]]:
    """Return key and class names of the set to add to, or another split of the same dataset that has labels."""
    backbone, dataset, split = map(slug, key.split("/"))
    others = {
        entry.split: entry
        for entry in cache.entries()
        if (entry.backbone, entry.dataset) == (backbone, dataset)
        and (append or entry.split != split)
        and "labels" in entry.manifest.columns
    }
    first = others.get(split) or others.get("train") or next(iter(others.values()), None)
    return ("", ()) if first is None else (first.key, first.manifest.classes)


def _class_numbers(
    cache: FeatureCache, key: str, given: Any, classes: Sequence[str], ood: bool, append: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels numbered as in the set to add to or another split; OOD rows may have other classes."""
    other, known = _known_classes(cache, key, append)
    labels, names = class_labels(given, classes)
    if not other or names == known:
        return labels, names
    if not known:
        if names not in ((), ("False", "True")) and not classes and not ood:
            raise DataError(f"{key} has labels by name, {other} by number; give both in the same way")
        return labels, names
    if not names:
        try:
            return class_labels(given, known)
        except DataError as error:
            if ood:
                return np.full_like(labels, -1), known
            raise DataError(f"{key}, whose classes are those of {other}: {error}") from None
    found = [names[number] for number in np.unique(labels) if number >= 0]
    if (unknown := [name for name in found if name not in known]) and not ood:
        raise DataError(
            f"{key} has a class {unknown[0]!r} that {other} does not have (it has {listed(known)}); "
            + (
                "import all rows again, with --overwrite"
                if append
                else "import first the split that has every class"
            )
        )
    places = np.array([*(known.index(name) if name in known else -1 for name in names), -1])
    return places[np.maximum(labels, -1)], known


def _fitting(classifier: Classifier | tuple[Any, Any], given: FeatureSet) -> Classifier:
    weight, bias = map(_reals, Classifier._fields, classifier)
    features = given.feature()
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.shape[1] != features.shape[1]:
        raise DataError(
            f"a classifier of weight {list(weight.shape)} and bias {list(bias.shape)} does not fit features "
            f"{list(features.shape)}: it needs [C, D] and [C]"
        )
    return Classifier(weight.astype("f4", copy=False), bias.astype("f4", copy=False))


def export_set(cache: FeatureCache, key: str, target: str | Location, form: str) -> Any:
    """Copy a set out of the cache.

    Parameters
    ----------
    cache : FeatureCache
        Source cache.
    key : str
        ``backbone/dataset/split``.
    target : path
        A cache root for ``zarr`` and ``hdf5``, which may be a URL of object storage; an empty folder for ``npy``.
    form : str
        ``zarr`` or ``hdf5`` (another cache with the same values), or ``npy`` (one file per column, plus
        classifier and manifest).

    Returns
    -------
    Path or ObjectPath
        The written folder.

    Raises
    ------
    UsageError
        If the target already has other content.
    """
    source = cache[key]
    if form == "npy":
        return _export_npy(source, local_path(str(target)) / key.replace("/", "-"))
    copy = FeatureCache(target)
    if copy.root.resolve() == cache.root.resolve():
        raise UsageError("export into the cache itself would replace the set; choose another folder")
    folder = cache.folder(*key.split("/"))
    there = Manifest.load(folder)
    destination = copy.folder(*key.split("/"))
    manifest = dataclasses.replace(there, store=form, schema=SCHEMA, rows_folder="")
    try:
        opened = SetWriter(destination, manifest, None)
    except Mismatch:
        raise Mismatch(f"{destination} holds another set of this name; choose another folder") from None
    with opened as writer:
        if there.classifier_sha256:
            content = (folder / there.rows_folder / CLASSIFIER).read_bytes()
            atomic_write(destination / CLASSIFIER, content)
        from featood.cache.reader import open_blocks

        _, reader = open_blocks(folder)
        for block in writer.pending():
            columns = {name: reader(name, block) for name in there.columns}
            writer.write(block, columns, reader.commits[block]["failed"])
        writer.finish(key)
    return destination


def _export_npy(source: FeatureSet, folder: Path) -> Path:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not empty; choose another folder")
    columns: dict[str, Any] = {**source.features, "logits": source.logits, "labels": source.labels}
    with scratch_folder(folder) as scratch:
        for name, column in columns.items():
            if column is not None:
                with create(scratch / f"{name}.npy") as file:
                    _write_npy(file, column, len(source))
        if source.ids is not None:
            with create(scratch / "ids.npy") as file:
                np.save(file, np.asarray(source.ids[:]).astype(str))
        if source.classifier is not None:
            with create(scratch / "classifier.npz") as file:
                np.savez(file, weight=source.classifier[0], bias=source.classifier[1])
        with create(scratch / "manifest.json") as file:
            file.write(json.dumps(source.origin.as_json() if source.origin else {}, indent=1).encode())
    return folder


def _write_npy(file: IO[bytes], column: Any, rows: int) -> None:
    """Write a column block by block, in the format of ``np.save``."""
    dtype = np.dtype(column.dtype)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(column.shape),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for start in range(0, rows, ROWS):
        file.write(np.ascontiguousarray(column[start : start + ROWS], dtype).data)
