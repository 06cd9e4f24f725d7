import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from saved import NAMES, X, Y, hugging_face, table
from sklearn.datasets import load_iris
from sklearn.metrics import roc_auc_score

from featood.cache import open_cache
from featood.cache.manifest import Manifest


@pytest.fixture
def flowers(tmp_path):
    """Write scikit-learn's iris to a file, with class names."""
    bunch = load_iris()
    rows = [
        f"{','.join(map(str, x))},{bunch.target_names[y]}"
        for x, y in zip(bunch.data, bunch.target, strict=True)
    ]
    (tmp_path / "flowers.csv").write_text("a,b,c,d,species\n" + "\n".join(rows))
    return tmp_path / "flowers.csv"


def opened(tmp_path, key):
    return open_cache(tmp_path / "cache")[key]


def features(tmp_path, key):
    return np.asarray(opened(tmp_path, key).feature()[:])


def test_a_file_becomes_splits_and_an_ood_set(featood, flowers, tmp_path):
    code, out, err = featood("import", "--csv", flowers, "--label", "species", "--ood-classes", "setosa")
    assert code == 0, err
    assert [line.split()[1] for line in out.splitlines()] == ["60", "20", "20", "50"]
    train = opened(tmp_path, "table-flowers/flowers/train")
    assert np.bincount(train.labels[:]).tolist() == [30, 30]
    recipe, run = train.origin.table, train.origin.run["table"]
    assert recipe["columns"] == ["a", "b", "c", "d"] and recipe["classes"] == ["versicolor", "virginica"]
    assert run["seed"] == 0 and run["parts"] == {"train": 60, "val": 20, "test": 20}
    assert run["source"] == str(flowers)

    assert featood("fit", "mahalanobis")[0] == 0
    code, out, err = featood(
        "score", "--ood", "flowers-ood", "--ood", "table-noise:uniform,n=70", "--json", "-"
    )
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["ood"], row["n_ood"]) for row in rows] == [
        ("flowers-ood", 50),
        ("table-noise:uniform,n=70", 70),
    ]
    # oracle: the same distances computed from the file
    x, y = train.feature()[:].astype(float), train.labels[:]
    centred = np.concatenate([x[y == c] - x[y == c].mean(0) for c in (0, 1)])
    precision = np.linalg.inv(centred.T @ centred / len(centred))

    def score(rows):
        away = [rows - x[y == c].mean(0) for c in (0, 1)]
        return np.min([np.einsum("nd,de,ne->n", a, precision, a) for a in away], axis=0)

    id_scores = score(features(tmp_path, "table-flowers/flowers/test"))
    ood_scores = score(features(tmp_path, "table-flowers/flowers-ood/test"))
    truth = np.r_[np.zeros(20), np.ones(50)]
    assert rows[0]["auroc"] == pytest.approx(roc_auc_score(truth, np.r_[id_scores, ood_scores]), abs=1e-6)


def test_every_row_goes_to_one_split_and_keeps_its_number_in_the_file(featood, flowers, tmp_path):
    assert featood("import", "--csv", flowers, "--label", "-1")[0] == 0
    bunch, seen = load_iris(), []
    for split in ("train", "val", "test"):
        part = opened(tmp_path, f"table-flowers/flowers/{split}")
        rows = np.array(part.ids[:], int)
        np.testing.assert_allclose(part.feature()[:], bunch.data[rows], rtol=1e-6)
        np.testing.assert_array_equal(part.labels[:], bunch.target[rows])
        seen += rows.tolist()
    assert sorted(seen) == list(range(150))


def test_seeds_give_different_splits_and_repeating_changes_nothing(featood, flowers, tmp_path):
    words = ("import", "--csv", flowers, "--label", "species")
    assert featood(*words)[0] == 0
    before = features(tmp_path, "table-flowers/flowers/train")
    assert featood(*words)[0] == 0
    code, _, err = featood(*words, "--seed", "1")
    assert code == 5 and "--overwrite" in err
    assert featood(*words, "--seed", "1", "--dataset", "flowers-1")[0] == 0
    assert featood(*words, "--seed", "1", "--overwrite")[0] == 0
    after = features(tmp_path, "table-flowers/flowers/train")
    assert (before != after).any()
    np.testing.assert_array_equal(after, features(tmp_path, "table-flowers-1/flowers-1/train"))
    code, _, err = featood(*words, "--parts", "80,20", "--overwrite")
    assert code == 5 and "val" in err


def test_splits_from_several_files_share_columns_classes_and_scale(featood, flowers, tmp_path):
    header, *rows = flowers.read_text().splitlines()
    rows = np.random.default_rng(0).permutation(rows).tolist()
    for name, part in (("train", rows[:100]), ("test", [row for row in rows[100:] if "setosa" not in row])):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *part]))
    (tmp_path / "weird.csv").write_text("d,c,b,a\n9,8,7,6\n")
    common = ("--label", "species", "--dataset", "iris")
    code, _, err = featood("import", "--csv", tmp_path / "test.csv", *common, "--split", "test")
    assert code == 3 and "train split" in err
    train = ("import", "--csv", tmp_path / "train.csv", *common, "--split", "train", "--scale", "standard")
    assert featood(*train)[0] == 0
    assert featood("import", "--csv", tmp_path / "test.csv", *common, "--split", "test")[0] == 0
    x = features(tmp_path, "table-iris/iris/train")
    np.testing.assert_allclose([x.mean(0), x.std(0)], [np.zeros(4), np.ones(4)], atol=1e-6)
    test = opened(tmp_path, "table-iris/iris/test")
    assert set(test.labels[:].tolist()) == {1, 2}, "versicolor keeps its number without setosa"
    code, out, err = featood("import", "--csv", tmp_path / "weird.csv", "--ood")
    assert code == 0 and out.startswith("table-iris/weird/test: 1 rows"), err
    raw = np.array([row.split(",")[:4] for row in rows[:100]], float)
    np.testing.assert_allclose(
        features(tmp_path, "table-iris/weird/test")[0],
        (np.array([6, 7, 8, 9]) - raw.mean(0)) / raw.std(0),
        rtol=1e-5,
    )
    assert featood("fit", "knn", "--k", "3")[0] == 0
    assert featood("score", "--ood", "weird")[0] == 0
    (tmp_path / "short.csv").write_text("a,b,c\n1,2,3\n")
    code, _, err = featood("import", "--csv", tmp_path / "short.csv", "--ood")
    assert code == 3 and "no column 'd'" in err


def test_built_in_tables(featood, tmp_path):
    code, out, err = featood("import", "--table", "two-moons", "--rows", "200", "--store", "hdf5")
    assert code == 0, err
    keys = [line.split(":")[0] for line in out.splitlines()]
    splits = [f"table-two-moons/two-moons/{split}" for split in ("train", "val", "test")]
    assert keys == [*splits, "table-two-moons/two-moons-background/test"]
    other = tmp_path / "other"
    assert featood("import", "--table", "two-moons", "--rows", "200", "--seed", "1", "--cache", other)[0] == 0
    assert (features(tmp_path, keys[0]) != open_cache(other)[keys[0]].feature()[:]).any()
    assert featood("import", "--table", "wine")[0] == 0
    x = features(tmp_path, "table-wine/wine/train").astype(float)
    np.testing.assert_allclose([x.mean(0), x.std(0)], [np.zeros(13), np.ones(13)], atol=1e-5)
    # heads can score the out-of-distribution rows, which have the same scale
    folders = [tmp_path / "cache" / "table-wine" / name for name in ("wine/train", "wine-class-2/test")]
    assert len({Manifest.load(folder).backbone_fingerprint for folder in folders}) == 1


def test_segment_on_the_command_line(featood, test_data, monkeypatch, tmp_path):
    monkeypatch.setenv("FEATOOD_DATA", str(test_data))
    code, out, err = featood("import", "--table", "segment")
    assert code == 0, err
    assert [int(line.split()[1]) for line in out.splitlines()] == [1188, 396, 396, 330]
    assert opened(tmp_path, "table-segment/segment/train").feature().shape == (1188, 18)
    assert featood("fit", "knn", "--space", "none", "--k", "5")[0] == 0
    code, out, _ = featood("score", "--ood", "segment-sky", "--json", "-")
    assert code == 0 and json.loads(out)["rows"][0]["auroc"] > 0.95
    code, _, err = featood("extract", "--dataset", "segment")
    assert code == 2 and err.strip().splitlines() == [
        "error: segment is a table, not a set of images; import it: featood import --table segment"
    ]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("import",), 2, "--table NAME, --file FILE and --features FILE"),
        (("import", "--table", "wine", "--csv", "CSV"), 2, "one of --table"),
        (("import", "--table", "wines"), 2, "did you mean wine"),
        (("import", "--table", "wine", "--rows", "99"), 2, "--rows"),
        (("import", "--table", "segment"), 3, "get segment_scale_sky_missing.csv and"),
        (("import", "--table", "wine", "--parts", "60,20,10,10"), 2, "--parts"),
        (("import", "--table", "wine", "--parts", "0,50,50"), 2, "--parts"),
        (("import", "--table", "wine", "--parts", "60,nan,20"), 2, "--parts"),
        (("import", "--table", "wine", "--parts", "99.99,0.01"), 3, "too few for a test split"),
        (("import", "--csv", "none.csv"), 3, "does not exist"),
        (("import", "--csv", "CSV"), 3, "'species' contains 'setosa'"),
        (("import", "--csv", "CSV", "--label", "specie"), 2, "did you mean 'species'"),
        (
            ("import", "--csv", "CSV", "--label", "species", "--ood-classes", "setos"),
            2,
            "did you mean setosa",
        ),
        (("import", "--csv", "CSV", "--label", "species", "--ood"), 3, "is empty"),
        (("import", "--features", "CSV"), 2, "--backbone"),
        (("import", "--features", "CSV", "--label", "species"), 2, "--label goes with --file"),
        (("import", "--csv", "CSV", "--labels", "CSV"), 2, "--labels goes with --features"),
        (("import", "--table", "wine", "--split", "test"), 2, "--split goes with --file or --features"),
        (("extract", "--dataset", "two-moons"), 2, "featood import --table two-moons"),
        (("extract", "--dataset", "segment-sky", "--backbone", "lenet"), 2, "featood import --table segment"),
        (("extract", "--dataset", "digits"), 2, "--backbone"),
    ],
)
def test_errors_have_one_line_and_the_right_exit_code(
    featood, flowers, monkeypatch, tmp_path, words, code, text
):
    monkeypatch.setenv("FEATOOD_DATA", str(tmp_path / "nothing"))
    got, _, err = featood(*(str(flowers) if word == "CSV" else word for word in words))
    assert got == code, err
    assert text in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "cache").exists()


def test_an_image_folder_named_like_a_table_is_still_images(featood, toy_images):
    shutil.move(toy_images / "toy", toy_images / "rings")
    code, out, err = featood(
        "extract",
        "--backbone",
        "cifar-resnet20",
        "--weights",
        "random",
        "--image-size",
        "16",
        "--dataset",
        "rings",
    )
    assert code == 0 and "rings/train: 90 rows" in out, err


def test_noise_is_for_tables_only_and_has_few_options(featood, tmp_path):
    assert featood("import", "--table", "wine")[0] == 0
    assert featood("fit", "norm")[0] == 0
    for name, text in (
        ("table-noise:pink", "gaussian, uniform, constant"),
        ("table-noise:gaussian,k=3", "k=3"),
    ):
        code, _, err = featood("score", "--ood", name)
        assert code == 2 and text in err
    code, _, err = featood("score", "--ood", "cifar100")
    assert code == 3 and "featood import" in err


def test_tables_are_listed(featood, test_data):
    rows = {
        row["name"]: row
        for row in json.loads(featood("datasets", "--json", "--data-dir", test_data)[1])["datasets"]
    }
    assert rows["cifar10"]["kind"] == "images" and rows["segment"]["kind"] == "table"
    assert rows["segment"]["there"] and rows["rings"]["there"] and not rows["sensorless"]["there"]
    code, out, err = featood("datasets")
    assert code == 0 and "segment-sky" in out and "table-noise:gaussian" in err


def test_the_demonstration_on_tables(featood, monkeypatch, tmp_path):
    from featood.pipeline.demos import tables as demo

    small = {"epochs": 2, "batch_size": 64, "width": 8, "depth": 1}
    heads = {name: small if options.get("epochs") else options for name, options in demo.HEADS.items()}
    monkeypatch.setattr(demo, "HEADS", heads)
    monkeypatch.setattr(demo, "TABLES", {"two-moons": 300, "wine": None})
    monkeypatch.setattr(demo, "NOISE", "table-noise:uniform,n=100")
    code, out, err = featood("demo", "tabular", "--out", tmp_path / "demo")
    assert code == 0, err
    assert "two-moons-background" in out and "wine-class-2" in out
    moons, wine = ((tmp_path / "demo" / f"report-{name}.html").read_text() for name in ("two-moons", "wine"))
    assert moons.count("<b>Scores in the plane</b>") == len(heads) and "<b>Scores in the plane" not in wine


@pytest.mark.parametrize(
    ("name", "label", "width", "classes"),
    [
        ("unnamed_0", "class", 3, "A, B, C"),
        ("ids_beyond_2_53", "device", 3, "12, 9007199254740992, 9007199254740993"),
        ("leading_zeros", "code", 3, "01, 1, 2"),
        ("class_named_NA", "country", 3, "DE, FR, NA"),
        ("empty_column", "class", 3, "A, B, C"),
        ("decimal_comma", "Klasse", 3, "A, B, C"),
        ("booleans", "class", 4, "A, B, C"),
        ("missing_tokens", "class", 3, "A, B, C"),
    ],
)
def test_difficult_tables(featood, tmp_path, name, label, width, classes):
    path = Path(__file__).parents[1] / "cases" / "csv" / f"{name}.csv"
    code, out, err = featood("import", "--csv", path, "--label", label)
    assert code == 0, err
    assert [line.split(" rows imported, ") for line in out.splitlines()] == [
        [f"table-{name}/{name}/{split}: {rows}", f"3 classes: {classes}"]
        for split, rows in (("train", "54"), ("val", "18"), ("test", "18"))
    ]
    assert features(tmp_path, f"table-{name}/{name}/train").shape == (54, width)
    listed = json.loads(featood("cache", "ls", "--json")[1])
    assert all(entry["classes"] == classes.split(", ") for entry in listed)


def test_columns_left_out_of_the_train_rows_are_left_out_of_others(featood, tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    for name, start, numbers in (("train", 0, range(20)), ("test", 20, [7, 9, *range(30, 48)])):
        lines = [f"{i},{x},{y},c{int(x > 0)}" for i, (x, y) in zip(numbers, rows[start:], strict=False)]
        (tmp_path / f"{name}.csv").write_text("serial,x,y,k\n" + "\n".join(lines))
    for name in ("train", "test"):
        words = ("--label", "k", "--dataset", "d", "--split", name)
        code, _, err = featood("import", "--file", tmp_path / f"{name}.csv", *words)
        assert code == 0, err
    np.testing.assert_allclose(features(tmp_path, "table-d/d/test"), rows[20:], rtol=1e-6)
    code, _, err = featood("import", "--file", tmp_path / "test.csv", "--ood", "--drop", "k")
    assert code == 0, err
    code, _, err = featood(
        "import",
        "--file",
        tmp_path / "test.csv",
        "--drop",
        "x",
        "--label",
        "k",
        "--split",
        "test",
        "--dataset",
        "d",
    )
    assert code == 3 and "no column 'x'" in err
    (tmp_path / "gap.csv").write_text("x,y\n1,\n2,\n")
    code, _, err = featood("import", "--file", tmp_path / "gap.csv", "--ood")
    assert code == 3 and "'y' has the most" in err


def test_a_data_set_with_splits(featood, tmp_path):
    kinds = {"kind": {"names": ["dog", "cat", "eel"], "_type": "ClassLabel"}}
    rows = table().set_column(1, "kind", pa.array([kinds["kind"]["names"].index(name) for name in NAMES]))
    for name, part in (("test", slice(8, 12)), ("train", slice(0, 6)), ("validation", slice(6, 8))):
        hugging_face(tmp_path / "saved" / name, rows.slice(part.start, part.stop - part.start), kinds)
    splits = json.dumps({"splits": ["test", "train", "validation"]})
    (tmp_path / "saved" / "dataset_dict.json").write_text(splits)
    words = ("import", "--file", tmp_path / "saved", "--label", "kind", "--scale", "standard")
    code, out, err = featood(*words)
    assert code == 0, err
    assert [line.split(",")[0] for line in out.splitlines()] == [
        f"table-saved/saved/{split} rows imported" for split in ("train: 6", "test: 4", "val: 2")
    ]
    raw = np.column_stack([X, Y * 2.5])
    train = raw[:6]
    for split, part in (("test", slice(8, 12)), ("val", slice(6, 8))):
        right = (raw[part] - train.mean(0)) / train.std(0)
        np.testing.assert_allclose(features(tmp_path, f"table-saved/saved/{split}"), right, atol=1e-5)
    test = opened(tmp_path, "table-saved/saved/test")
    assert [test.classes[number] for number in test.labels[:]] == NAMES[8:].tolist()
    code, _, err = featood(*words, "--ood-classes", "dog")
    assert code == 2 and "--split" in err
    code, _, err = featood(*words, "--split", "dev")
    assert code == 2 and "it has test, train, val" in err
