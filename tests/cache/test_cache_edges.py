"""Edge cases of the cache: lines and branches that other tests do not cover."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from reporters import Kept
from test_cache import KEY, make_manifest, make_rows, write_all

from featood.cache import (
    Classifier,
    FeatureCache,
    FeatureSet,
    as_feature_set,
    byte_ranges,
    export_set,
    import_arrays,
    import_files,
    library_versions,
    slug,
)
from featood.cache.commits import commit_path
from featood.cache.stores import Store
from featood.errors import CacheCorrupt, DataError, FeatoodError, UsageError
from featood.sealed import read_json, write_json

X = np.arange(12, dtype="f4").reshape(4, 3)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def saved(tmp_path):
    def save(name, values):
        path = tmp_path / name
        if isinstance(values, dict):
            np.savez(path, **values)
        elif isinstance(values, str):
            path.write_text(values)
        else:
            np.save(path, values)
        return str(path)

    return save


def test_a_cache_lists_its_content(tmp_path):
    cache = write_all(tmp_path, "hdf5", make_rows(300))
    assert repr(cache) == f"FeatureCache({str(tmp_path)!r}: 1 sets)" and len(cache) == 1
    assert cache.keys() == [KEY] == cache.keys([KEY]) and KEY in cache and 3 not in cache
    with pytest.raises(DataError, match=f"net/toy/train is not in the cache .* {KEY}"):
        cache.keys(["net/toy/train"])
    for key in ("net/toy", "a//b", "a/b/c/d"):
        with pytest.raises(UsageError, match="backbone/dataset/split"):
            cache[key]
    text = repr(cache[KEY])
    assert KEY in text and "300 rows" in text and "avg[12]" in text


def test_verify_counts_rows_and_keeps_intact_blocks(tmp_path):
    seen = []
    cache = write_all(tmp_path, "hdf5", make_rows(300))
    assert cache.verify(KEY, drop=True, progress=lambda done, total: seen.append((done, total))) == []
    assert seen == [(256, 300), (300, 300)]
    assert len(cache[KEY]) == 300


@pytest.mark.parametrize("field", ["rows", "columns", "recipe"])
def test_the_error_of_a_manifest_names_the_missing_field(tmp_path, field):
    cache = write_all(tmp_path, "hdf5", make_rows(300))
    path = cache.folder(*KEY.split("/")) / "manifest.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name != field})
    with pytest.raises(CacheCorrupt, match=r"manifest\.json"):
        cache[KEY]
    (problem,) = cache.verify(KEY)
    assert "manifest.json" in str(problem)
    assert cache.garbage(incomplete=True, older_than=0) == [path.parent]


def test_gc_ignores_files_among_the_sets(tmp_path):
    cache = write_all(tmp_path, "hdf5", make_rows(300))
    (tmp_path / "net" / "toy" / "notes.txt").write_text("mine")
    assert cache.garbage(incomplete=True, older_than=0) == []


@pytest.mark.parametrize("change", [{"rows": 0}, {"block_rows": 0}])
def test_manifests_without_rows_or_columns_are_refused(change):
    with pytest.raises(UsageError, match="row"):
        dataclasses.replace(make_manifest(make_rows(10), "zarr"), **change)


def test_versions_are_those_of_installed_packages(monkeypatch):
    import importlib.metadata

    def version(name, real=importlib.metadata.version):
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "timm" not in library_versions() and library_versions()["numpy"] == np.__version__


def test_a_stored_column_is_an_array_to_numpy(tmp_path):
    rows = make_rows(300)
    column = write_all(tmp_path, "hdf5", rows)[KEY].features["std"]
    assert np.asarray(column).dtype == np.float16
    np.testing.assert_array_equal(np.asarray(column, dtype="f8"), rows["std"].astype("f8"))


def test_the_base_class_of_stores_implements_no_store(tmp_path):
    bare = Store(tmp_path, {}, 3, 2)
    bare.create(), bare.finish()
    for call in (lambda: bare.write(0, {}), lambda: bare.locate("avg", 0), lambda: bare.files(0)):
        with pytest.raises(NotImplementedError):
            call()


def test_a_writer_may_be_closed_twice(tmp_path):
    cache, rows = FeatureCache(tmp_path), make_rows(300)
    with cache.writer(KEY, make_manifest(rows, "hdf5")) as writer:
        with writer:
            pass
    cache.writer(KEY, make_manifest(rows, "hdf5")).__exit__()


def test_file_systems_without_locks_are_written_to(tmp_path, monkeypatch):
    import errno

    def without(*_):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr("fcntl.flock", without)
    assert len(write_all(tmp_path, "hdf5", make_rows(300))[KEY]) == 300


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3, 12), (4,))])
def test_a_classifier_has_a_weight_and_a_bias_for_each_class(tmp_path, shapes):
    classifier = Classifier(*(np.ones(shape) for shape in shapes))
    with pytest.raises(DataError, match=r"weight \[C, D\] and bias \[C\]"):
        FeatureCache(tmp_path).writer(KEY, make_manifest(make_rows(10), "zarr"), classifier)


def test_rows_in_memory():
    assert FeatureSet({"x": X}, ids=["a", "b", "c", "d"]).ids.tolist() == ["a", "b", "c", "d"]
    rows = as_feature_set(torch.tensor(X, requires_grad=True), labels=["dog", "cat", "dog", ""])
    assert as_feature_set(rows) is rows and rows.classes == ("cat", "dog")
    assert rows.labels.tolist() == [1, 0, 1, -1]
    assert not next(rows.blocks()).feature().requires_grad
    with pytest.raises(DataError, match="at least one column"):
        FeatureSet({})
    with pytest.raises(DataError, match=r"columns by name, such as {'avg': rows}, not ndarray"):
        FeatureSet(features=X)
    with pytest.raises(DataError, match="complex128 is not numeric"):
        FeatureSet({"x": X.astype(complex)}).to_torch()


def test_logits_with_and_without_a_classifier(cache):
    assert list(import_arrays(cache, "a/b/c", {}, logits=X).features) == []
    linear = Classifier(np.ones((3, 3), "f4"), np.zeros(3, "f4"))
    given = import_arrays(cache, "a/b/d", {"x": X}, logits=2 * X, classifier=linear)
    np.testing.assert_array_equal(given.logits[:], 2 * X)
    assert given.labels is None


def test_values_beyond_float32_are_distinguished_from_non_finite_ones(cache):
    for value, words in ((1e39, "beyond float32"), (np.nan, "not finite")):
        spoilt = X.astype("f8")
        spoilt[2, 1] = value
        with pytest.raises(DataError, match=rf"first: row 2\) are {words}"):
            import_arrays(cache, "a/b/c", {"x": spoilt})


@pytest.mark.parametrize("split", ["test", "odd"])
def test_numbers_as_labels_refer_to_the_names_of_the_other_split(cache, split):
    import_arrays(cache, "a/b/train", {"x": X}, labels=["cat", "dog", "cat", "dog"])
    found = import_arrays(cache, f"a/b/{split}", {"x": X}, labels=[0, 1, 1, 0])
    assert found.labels[:].tolist() == [0, 1, 1, 0] and found.classes == ("cat", "dog")


@pytest.mark.parametrize("labels", [[True, False, True, False], ["x", "y", "x", "y"]])
def test_labels_of_outliers_may_be_names(cache, labels):
    import_arrays(cache, "a/b/train", {"x": X}, labels=[0, 1, 2, 0])
    found = import_arrays(cache, "a/b/odd", {"x": X}, labels=labels, run={"role": "ood"})
    assert len(found.classes) == 2 and sorted(set(found.labels[:].tolist())) == [0, 1]


def test_a_damaged_manifest_does_not_hide_other_sets(cache):
    for split in ("train", "test"):
        import_arrays(cache, f"a/b/{split}", {"x": X})
    (cache.folder("a", "b", "test") / "manifest.json").write_bytes(b"{")
    assert "a/b/train" in list(cache) and len(cache.keys()) == 2
    (problem,) = cache.verify("a/b/test")
    assert "manifest.json" in str(problem)


def test_exports_need_an_empty_folder(cache, tmp_path):
    import_arrays(cache, "a/b/c", {"x": X})
    with pytest.raises(UsageError, match="into the cache itself"):
        export_set(cache, "a/b/c", cache.root, "hdf5")
    export_set(cache, "a/b/c", tmp_path / "npy", "npy")
    with pytest.raises(FeatoodError, match="not empty"):
        export_set(cache, "a/b/c", tmp_path / "npy", "npy")


def test_ids_are_exported_if_there_are_any(cache, tmp_path):
    rows = {"avg": X}
    manifest = dataclasses.replace(
        make_manifest({**rows, "labels": np.zeros(4, int)}, "zarr"), columns={"avg": make_spec(X)}
    )
    with cache.writer(KEY, manifest) as writer:
        writer.write(0, rows)
        writer.finish()
    folder = export_set(cache, KEY, tmp_path / "npy", "npy")
    assert sorted(path.name for path in folder.iterdir()) == ["avg.npy", "manifest.json"]


def make_spec(values):
    from featood.cache import ColumnSpec

    return ColumnSpec(values.shape[1:], str(values.dtype))


def test_a_file_without_a_weight_is_not_a_classifier(cache, saved):
    with pytest.raises(DataError, match=r"array named weight \(it has: bias\)"):
        import_files(cache, "a/b/c", [saved("x.npy", X)], classifier=saved("w.npz", {"bias": X[0]}))


def test_ids_in_a_file_name_the_rows(cache, saved):
    names = np.array(["a", "ü", "c", "d"])
    found = import_files(cache, "a/b/c", [saved("x.npz", {"emb": X, "ids": names, "n": np.arange(4)})])
    assert found.ids[:].tolist() == names.tolist() and list(found.features) == ["emb"]


def test_a_table_of_single_numbers_is_one_column(cache, saved):
    reporter = Kept()
    table = "k,p,q\n" + "".join(f"{row},{2 * row + 0.5},{-row - 0.25}\n" for row in range(4))
    found = import_files(cache, "a/b/c", [saved("t.csv", table)], reporter=reporter)
    assert list(found.features) == ["features"] and found.labels is None
    labelled = "target,p,q\n" + "".join(f"c{row % 2},{2 * row + 0.5},{-row - 0.25}\n" for row in range(4))
    found = import_files(cache, "e/b/c", [saved("l.csv", labelled)], reporter=reporter)
    assert found.labels[:].tolist() == [0, 1, 0, 1]
    assert any("'target' is taken as the labels" in line for line in reporter.lines)
    sparse = "labels,p,empty,q\n" + "".join(f"{row % 2},{row + 0.5},,{row * row}.25\n" for row in range(4))
    found = import_files(cache, "g/b/c", [saved("s.csv", sparse)], reporter=reporter)
    assert found.feature().shape == (4, 2) and found.labels[:].tolist() == [0, 1, 0, 1]
    assert any("s.csv" in line and "empty" in line for line in reporter.lines)
    with pytest.raises(DataError, match="imported by --file"):
        import_files(cache, "f/b/c", [saved("bad.csv", "p,q\nred,blue\ngreen,red\n")])


def test_logits_from_a_table(cache, saved):
    table = "p,q\n" + "".join(f"{2 * row + 0.5},{-row - 0.25}\n" for row in range(4))
    found = import_files(cache, "a/b/c", [saved("x.npy", X)], logits=saved("logits.csv", table))
    np.testing.assert_array_equal(found.logits[:], [[2 * row + 0.5, -row - 0.25] for row in range(4)])


def test_names_are_converted_once(cache):
    import_arrays(cache, "timm:net/b/c", {"x": X})
    assert list(cache) == ["timm-net/b/c"] == [slug("timm:net") + "/b/c"]
    np.testing.assert_array_equal(cache["timm:net/b/c"].feature()[:], X)


def test_parts_left_out_of_a_checkpoint_are_reported(cache, tmp_path):
    reporter = Kept()
    torch.save({"emb": torch.tensor(X), "step": "seven"}, tmp_path / "x.pt")
    import_files(cache, "a/b/c", [str(tmp_path / "x.pt")], reporter=reporter)
    assert any("left out: step" in line for line in reporter.lines)


def test_classes_and_recipe_of_a_set(tmp_path):
    cache = write_all(tmp_path, "hdf5", make_rows(300))
    rows = cache[KEY]
    assert rows.num_classes == 3 and rows.recipe["backbone"] == "net"
    assert rows.select("avg").num_classes == 3 and FeatureSet({"x": X}).num_classes is None
    assert FeatureSet({"x": X}).recipe == {}
    assert cache.heads_folder("net", "toy") == tmp_path / "net" / "toy" / "heads"


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_a_bit_that_flips_after_the_disk_is_noticed(tmp_path, monkeypatch, store):
    cache = write_all(tmp_path, store, make_rows(300))
    column = cache[KEY].features["avg"]

    def flipped(file, out, real=byte_ranges.fill):
        real(file, out)
        out[-1] ^= 1

    monkeypatch.setattr(byte_ranges, "fill", flipped)
    with pytest.raises(CacheCorrupt, match=r"block 1 .*checksum"):
        column[256:]


def test_a_split_is_not_named_as_the_folder_of_heads(cache):
    with pytest.raises(UsageError, match="a split cannot be called 'Heads'"):
        cache.folder("net", "toy", "Heads")


def test_what_a_manifest_does_not_say_is_empty():
    manifest = dataclasses.replace(make_manifest(make_rows(3), "zarr"), data={}, run={"name": "n"})
    assert (manifest.inputs_sha256, manifest.role, manifest.network) == ("", "", "n")


def test_failed_rows_are_those_of_their_block(tmp_path):
    cache = write_all(tmp_path, "hdf5", make_rows(300), failed=(3,))
    path = commit_path(cache.folder(*KEY.split("/")), 0)
    record = {name: value for name, value in read_json(path).items() if name != "sha256"}
    write_json(path, {**record, "failed": [256]})
    with pytest.raises(CacheCorrupt, match="failed has rows of another block than 0"):
        cache[KEY]


@pytest.mark.parametrize("shape", [(3,), (2, 3, 1)])
def test_a_classifier_whose_tensors_have_other_axes_is_damage(tmp_path, shape):
    from safetensors.numpy import save

    rows = make_rows(3)
    content = save({"weight": np.ones(shape, "f4"), "bias": np.zeros(3, "f4")})
    manifest = dataclasses.replace(
        make_manifest(rows, "hdf5"), classifier_sha256=hashlib.sha256(content).hexdigest()
    )
    cache = FeatureCache(tmp_path)
    with cache.writer(KEY, manifest) as writer:
        writer.write(0, rows, [])
        (cache.folder(*KEY.split("/")) / "classifier.safetensors").write_bytes(content)
        with pytest.raises(CacheCorrupt, match="holds no weight"):
            writer.finish(KEY)


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_equal_bytes_of_another_type_are_damage(tmp_path, store):
    rows = make_rows(3)
    cache = write_all(tmp_path / "a", store, rows)
    other = write_all(tmp_path / "b", store, {**rows, "avg": rows["avg"].view("i4")})
    name = {"zarr": "avg/zarr.json", "hdf5": "block-00000.h5"}[store]
    target, source = (each.folder(*KEY.split("/")) / "columns" / name for each in (cache, other))
    target.write_bytes(source.read_bytes())
    with pytest.raises(CacheCorrupt, match=r"block 0 .* column avg: unreadable"):
        cache[KEY].features["avg"][:]


def test_metadata_of_zarr_that_are_damaged_before_a_block_is_written_are_made_again(tmp_path):
    rows = make_rows(300)
    cache, manifest = FeatureCache(tmp_path), make_manifest(rows, "zarr")
    with cache.writer(KEY, manifest) as writer:
        writer.write(0, {name: values[:256] for name, values in rows.items()}, [])
    (path,) = cache.folder(*KEY.split("/")).rglob("avg/zarr.json")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with cache.writer(KEY, manifest) as writer:
        writer.write(1, {name: values[256:] for name, values in rows.items()}, [])
        writer.finish(KEY)
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(cache[KEY].features["avg"][:], rows["avg"])
