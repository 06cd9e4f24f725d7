"""Rows that are added to an imported set: the result is that of an import of all rows at once."""

import numpy as np
import pytest

from featood.cache import Classifier, FeatureCache, import_arrays
from featood.errors import DataError, Mismatch, UsageError

KEY = "minilm/news/train"
STORES = ("zarr", "hdf5")
ROWS = 5000
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(ROWS, 3)).astype("f4"), RNG.integers(0, 3, ROWS)
Z = RNG.normal(size=(ROWS, 2)).astype("f2")
NAMES = np.array([f"text-{row}" for row in range(ROWS)])


def content(features):
    columns = {**features.features, "logits": features.logits, "labels": features.labels}
    values = {name: column[:].tobytes() for name, column in columns.items() if column is not None}
    prints = (
        features.content,
        features.origin.fingerprint,
        features.fingerprint,
        features.origin.inputs_sha256,
    )
    return values, list(features.ids[:]), features.classes, prints


def add(cache, rows, append=True, named=False, **how):
    names = {"ids": NAMES[rows]} if named else {}
    return import_arrays(
        cache, KEY, {"a": X[rows], "b": Z[rows]}, labels=Y[rows], append=append, **names, **how
    )


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def at_once(tmp_path, rows=slice(ROWS), **how):
    return content(add(FeatureCache(tmp_path / "at-once"), rows, append=False, **how))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("store", STORES)
def test_rows_day_by_day_give_the_set_of_all_rows(cache, tmp_path, store, named):
    for rows in (slice(0, 4000), slice(4000, 4096), slice(4096, 4097), slice(4097, ROWS)):
        found = add(cache, rows, named=named, store=store)
    assert found.origin.run["taken_over"] == {"rows": 4097}
    assert content(found) == content(cache[KEY]) == at_once(tmp_path, named=named)
    assert cache.verify(KEY) == [] and len(cache) == 1


@pytest.mark.parametrize("named", [True, False])
def test_rows_that_the_set_has_are_left_out(cache, tmp_path, named):
    add(cache, slice(0, 300), named=named)
    add(cache, slice(300, 500), named=named)
    expected = at_once(tmp_path, slice(500), named=named)
    for again in (slice(300, 500), slice(0, 500), slice(490, 500)):
        assert content(add(cache, again, named=named)) == expected
    assert content(add(cache, slice(0, 700), named=named)) == content(
        add(FeatureCache(tmp_path / "more"), slice(700), named=named)
    )


def test_named_rows_may_overlap_and_others_may_not_repeat_in_the_middle(cache, tmp_path):
    add(cache, slice(0, 300), named=True)
    assert content(add(cache, slice(200, 500), named=True)) == at_once(tmp_path, slice(500), named=True)
    other = FeatureCache(tmp_path / "other")
    add(other, slice(0, 300))
    assert (
        len(add(other, slice(100, 200))) == 400
    )  # rows without names that are not the first or the last are new


def test_classes_by_name_and_logits_of_the_classifier(cache, tmp_path):
    linear = Classifier(RNG.normal(size=(3, 3)), RNG.normal(size=3))
    words = np.array(["tea", "ale", "oil"])[Y]
    how = {"classifier": linear, "run": {"role": "ood"}}
    import_arrays(cache, KEY, {"a": X[:300]}, labels=words[:300], append=True, **how)
    found = import_arrays(cache, KEY, {"a": X[300:400]}, labels=words[300:400], append=True)
    whole = import_arrays(FeatureCache(tmp_path / "w"), KEY, {"a": X[:400]}, labels=words[:400], **how)
    np.testing.assert_allclose(found.logits[:], whole.logits[:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels[:], whole.labels[:])
    assert found.classes == whole.classes == ("ale", "oil", "tea") and found.origin.role == "ood"
    again = import_arrays(cache, KEY, {"a": X[:400]}, labels=words[:400], append=True)
    assert content(again) == content(found)  # whatever the last bits of the logits are
    with pytest.raises(Mismatch, match="another classifier"):
        import_arrays(
            cache, KEY, {"a": X[:9]}, labels=words[:9], append=True, classifier=(linear[0] + 1, linear[1])
        )
    only = import_arrays(cache, "minilm/news/val", {"a": X[:300]}, labels=words[:300])
    assert only.classes == found.classes
    with pytest.raises(DataError, match=r"'wine' that minilm/news/val does not have.*import all rows again"):
        import_arrays(cache, "minilm/news/val", {"a": X[:1]}, labels=["wine"], append=True)


def test_what_does_not_belong_into_the_set_is_refused_and_nothing_is_lost(cache):
    expected = content(add(cache, slice(300), named=True))
    day = slice(300, 310)
    cases = [
        (Mismatch, "only the rows have c", {"a": X[day], "b": Z[day], "c": Z[day]}, Y[day], {}),
        (Mismatch, "only the set has b", {"a": X[day]}, Y[day], {}),
        (Mismatch, "only the set has labels", {"a": X[day], "b": Z[day]}, None, {}),
        (
            Mismatch,
            "'a' is .3. float16, in the set .3. float32",
            {"a": X[day].astype("f2"), "b": Z[day]},
            Y[day],
            {},
        ),
        (Mismatch, "'a' is .2. float32", {"a": X[day][:, :2], "b": Z[day]}, Y[day], {}),
        (Mismatch, "another way .differing: main", {"a": X[day], "b": Z[day]}, Y[day], {"main": "b"}),
        (Mismatch, "differing: scale", {"a": X[day], "b": Z[day]}, Y[day], {"recipe": {"scale": "unit"}}),
        (
            Mismatch,
            "no classifier",
            {"a": X[day], "b": Z[day]},
            Y[day],
            {"classifier": (np.eye(3), np.ones(3))},
        ),
        (UsageError, "have names, such as 'text-0'", {"a": X[day], "b": Z[day]}, Y[day], {"ids": None}),
        (
            DataError,
            "a row 'text-7' with other values",
            {"a": X[day], "b": Z[day]},
            Y[day],
            {"ids": NAMES[5:15]},
        ),
        (Mismatch, "differing: store", {"a": X[day], "b": Z[day]}, Y[day], {"store": "hdf5"}),
        (UsageError, "keeps the rows", {"a": X[day], "b": Z[day]}, Y[day], {"overwrite": True}),
    ]
    y = Y.copy()
    for kind, match, columns, labels, how in cases:
        if "text-7" in match:
            columns = {"a": np.concatenate([X[5:7], X[day][:8]]), "b": np.concatenate([Z[5:7], Z[day][:8]])}
            labels = np.concatenate([y[5:7], y[day][:8]])
        with pytest.raises(kind, match=match):
            import_arrays(cache, KEY, columns, labels=labels, append=True, **{"ids": NAMES[day], **how})
        assert content(cache[KEY]) == expected
    assert len(list(cache.entry(KEY).folder.glob("rows-*"))) == 0
    with pytest.raises(Mismatch, match="add --overwrite"):
        add(cache, slice(310), named=True, append=False)


def test_files_are_added(featood, tmp_path):
    cache = ("--cache", tmp_path / "c")
    for day, rows in enumerate((slice(0, 40), slice(40, 70), slice(40, 70))):
        np.save(tmp_path / f"{day}.npy", X[rows])
        code, out, err = featood(
            "import",
            "--features",
            tmp_path / f"{day}.npy",
            "--backbone",
            "m",
            "--dataset",
            "d",
            "--append",
            *cache,
        )
        assert code == 0, err
    assert "0 rows are added to 70; 30 are left out, because the set has them" in err and "70 rows" in out
    np.testing.assert_array_equal(FeatureCache(tmp_path / "c")["m/d/test"].feature()[:], X[:70])


def test_rows_of_tables_are_added(featood, tmp_path):
    for name, rows in (
        ("train", slice(0, 40)),
        ("new", slice(40, 60)),
        ("both", slice(60)),
        ("odd", slice(60, 70)),
    ):
        lines = [f"{x[0]:.3f},{x[1]:.3f},{'ab'[y % 2]}" for x, y in zip(X[rows], Y[rows], strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["u,v,kind", *lines]))

    def imported(place, name, *words):
        file = ("--file", tmp_path / f"{name}.csv", "--label", "kind", "--dataset", "t")
        return featood("import", *file, *words, "--cache", tmp_path / place)

    for place, names in (("days", ("train", "new")), ("once", ("both",))):
        for scale, split in (("min-max", "train"), ("", "test")):
            for name in names[: 1 if split == "train" else None]:
                words = ("--scale", scale) if scale else ("--append",)
                code, _, err = imported(place, name if split == "test" else "train", "--split", split, *words)
                assert code == 0, err
    days, once = (FeatureCache(tmp_path / place)["table-t/t/test"] for place in ("days", "once"))
    assert len(days) == 60 and content(days) == content(once)
    code, _, err = imported("days", "new", "--split", "train", "--append")
    assert code == 2 and "the scale min-max" in err and "--overwrite" in err
    code, _, err = imported("days", "new", "--append")
    assert code == 2 and "name it by --split" in err
    assert imported("none", "train", "--split", "train")[0] == 0
    assert imported("none", "new", "--split", "train", "--append")[0] == 0
    assert imported("whole", "both", "--split", "train")[0] == 0
    train, whole = (FeatureCache(tmp_path / place)["table-t/t/train"] for place in ("none", "whole"))
    assert content(train) == content(whole)
    assert featood("import", "--table", "segment", "--append", "--cache", tmp_path / "days")[0] == 2
