import numpy as np
import pytest

from featood.cache import FeatureCache, export_set, import_arrays, open_cache
from featood.errors import Mismatch


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write array files of 50 rows in the working folder of the commands."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(50, 6))
    far = x.copy()
    far[7, 2] = 1e200
    arrays = {
        "x": x,
        "complex": x + 1j,
        "text": np.full((50, 6), "1.5"),
        "narrow": x[:, :0],
        "rowless": x[:0],
        "far": far,
        "weight-text": np.full((4, 6), "a"),
        "y": np.arange(50) % 4,
        "identifiers": np.arange(50) * 10**12,
        "wrapping": np.full(50, 2**64 - 1, "u8"),
        "measured": x[:, 0],
    }
    for name, values in arrays.items():
        np.save(f"{name}.npy", values)
    np.savez("empty.npz")
    np.savez("labels.npz", labels=arrays["y"])
    np.savez("both.npz", features=x, logits=x[:, :4])
    np.savez("bias.npz", weight=np.ones((4, 6)), bias=np.ones(3))
    np.savez("scalar.npz", weight=np.float32(1))
    np.savez("other.npz", weight=np.ones((4, 5)))
    np.savez("complex.npz", weight=np.ones((4, 6)) * 1j)
    (tmp_path / "folder").mkdir()
    (tmp_path / "headed.csv").write_text("a,b\n")
    return x


ARRAYS = ("--backbone", "b", "--dataset", "c")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("--features complex.npy", 3, "complex"),
        ("--features x.npy --logits complex.npy", 3, "complex"),
        ("--features x.npy --classifier complex.npz", 3, "complex"),
        ("--features text.npy", 3, "'features' holds values of type <U3"),
        ("--features x.npy --logits text.npy", 3, "'logits' holds values of type <U3"),
        ("--features narrow.npy", 3, "[50, 0]"),
        ("--features x.npy --logits narrow.npy", 3, "[50, 0]"),
        ("--features rowless.npy", 3, "[0, 6]"),
        ("--features labels.npz", 3, "no features"),
        ("--features empty.npz", 3, "no array"),
        ("--features x.npy --labels empty.npz", 3, "no array"),
        ("--features x.npy --labels bias.npz", 3, "several arrays (weight, bias)"),
        ("--features x.npy --classifier bias.npz", 3, "does not fit"),
        ("--features x.npy --classifier scalar.npz", 3, "does not fit"),
        ("--features both.npz --classifier other.npz", 3, "does not fit"),
        ("--features folder", 3, "is a folder"),
        ("--features far.npy", 3, "row 7) are beyond float32"),
        ("--features x.npy --features x.npy", 2, "'features' twice"),
        ("--features a=x.npy --features a=far.npy", 2, "'a' twice"),
        ("--features both.npz --logits x.npy", 2, "remove it there, or omit --logits"),
        ("--features =x.npy", 2, "NAME=FILE"),
        ("--features a=", 2, "NAME=FILE"),
        ("--features ids=x.npy", 2, "'ids'"),
        ("--features ../../outside=x.npy", 2, "'../../outside'"),
        ("--features x.npy --labels wrapping.npy", 3, "18446744073709551615"),
        ("--features x.npy --labels measured.npy", 3, "regression targets are not classes"),
    ],
)
def test_arrays_that_are_refused(featood, files, tmp_path, words, code, text):
    got, _, err = featood("import", *words.split(), *ARRAYS)
    assert got == code, err
    assert text in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "cache").exists(), "a refused import writes nothing"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("--csv folder", 3, "is a folder"),
        ("--csv headed.csv", 3, "no rows"),
        ("--table two-moons --seed -1", 2, "--seed"),
        (f"--table two-moons --seed {2**63}", 2, "--seed"),
        ("--csv headed.csv --seed -1", 2, "--seed"),
    ],
)
def test_tables_that_are_refused(featood, files, tmp_path, words, code, text):
    got, _, err = featood("import", *words.split())
    assert got == code, err
    assert text in err
    assert not (tmp_path / "cache").exists()


def test_integer_labels_stay_as_they_are(files, tmp_path):
    labels = np.array([0, 10**12, -1, -(10**12)])
    stored = import_arrays(FeatureCache(tmp_path / "cache"), "b/c/test", {"a": files[:4]}, labels=labels)
    assert stored.labels is not None
    np.testing.assert_array_equal(stored.labels[:], labels)


def test_columns_of_every_real_type_are_kept(files, tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    kinds = {"half": "f2", "single": "f4", "double": "f8", "big-endian": ">f4", "whole": "i8", "binary": "?"}
    given = {name: np.round(files * 4).astype(kind) for name, kind in kinds.items()}
    stored = import_arrays(cache, "b/c/test", given)
    for name, values in given.items():
        np.testing.assert_array_equal(stored.features[name][:], values)
        assert stored.features[name].dtype == ("f2" if name == "half" else "f4")


def test_errors_about_other_rows_mention_the_options_of_import(featood, files):
    words = ("import", *ARRAYS, "--features")
    assert featood(*words, "x.npy")[0] == 0
    np.save("others.npy", files + 1)
    code, _, err = featood(*words, "others.npy")
    assert code == 5 and "--overwrite" in err and "another --dataset or --backbone" in err
    assert "--name" not in err


def test_exporting_over_another_set_is_refused(files, tmp_path):
    first, second = FeatureCache(tmp_path / "first"), FeatureCache(tmp_path / "second")
    import_arrays(first, "b/c/test", {"a": files})
    import_arrays(second, "b/c/test", {"a": files + 1})
    with pytest.raises(Mismatch, match="another folder") as caught:
        export_set(first, "b/c/test", tmp_path / "second", "zarr")
    assert "--" not in str(caught.value)


def test_a_table_beyond_float32_is_rescaled_or_refused(featood, files, tmp_path):
    np.savetxt("wide.csv", files * 1e200, delimiter=",", header="a,b,c,d,e,f", comments="")
    np.savetxt("small.csv", files * 1e-200, delimiter=",", header="a,b,c,d,e,f", comments="")
    code, _, err = featood("import", "--csv", "wide.csv")
    assert code == 3 and "beyond float32" in err and "--scale min-max" in err
    for name in ("wide", "small"):  # their variance exceeds float64
        code, _, err = featood("import", "--csv", f"{name}.csv", "--scale", "standard")
        assert code == 3 and "column 'a'" in err and "--scale standard" in err, err
    assert not (tmp_path / "cache").exists()
    assert featood("import", "--csv", "wide.csv", "--scale", "min-max")[0] == 0
    train = open_cache(tmp_path / "cache")["table-wide/wide/train"]
    assert train.ids is not None
    rows = np.asarray(train.ids[:]).astype(int)
    np.testing.assert_allclose(
        train.feature()[:], (files[rows] - files[rows].min(0)) / np.ptp(files[rows], 0), atol=1e-6
    )


def test_the_error_of_too_few_rows_says_what_to_do(featood, files):
    np.savetxt("few.csv", files[:2], delimiter=",", header="a,b,c,d,e,f", comments="")
    code, _, err = featood("import", "--csv", "few.csv")
    assert code == 3 and "--parts" in err and "--split" in err, err
    assert featood("import", "--csv", "few.csv", "--split", "train")[0] == 0
