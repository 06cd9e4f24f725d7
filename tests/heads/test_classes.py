import numpy as np
from PIL import Image

from featood.metrics import class_table
from featood.report.rows import least_accurate


def test_the_table_of_classes_equals_a_loop():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(-1, 7, 300), rng.integers(0, 7, 300)
    labels[labels == 4] = 900
    rows = class_table(labels, predictions, ["a", "b", "c"])
    assert [row["class"] for row in rows] == ["a", "b", "c", "3", "5", "6", "900"]
    for row, number in zip(rows, (0, 1, 2, 3, 5, 6, 900), strict=True):
        mine = [int(predictions[i] == number) for i in range(300) if labels[i] == number]
        assert row["n"] == len(mine) and abs(row["accuracy"] - sum(mine) / len(mine)) < 1e-12
    assert "accuracy" not in class_table(labels)[0]


def test_of_many_classes_the_least_accurate_are_shown():
    rows = [{"class": str(place), "n": 1, "accuracy": place % 50 / 50} for place in range(100)]
    shown = least_accurate(rows)
    assert len(shown) == 30 and shown[0]["accuracy"] == 0
    assert max(row["accuracy"] for row in shown) <= min(row["accuracy"] for row in rows if row not in shown)
    assert least_accurate(rows[:5]) == rows[:5]


def test_names_of_classes_reach_results_and_report(tmp_path, featood):
    import json

    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, level in (("ant", 60), ("bee", 120), ("cat", 180)):
            folder = tmp_path / "data" / "insects" / split / name
            folder.mkdir(parents=True)
            for row in range(12):
                pixels = np.clip(rng.normal(level, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{row}.png")
    words = ("--backbone", "cifar-resnet20", "--weights", "random", "--data-dir", tmp_path / "data")
    assert featood("extract", "--dataset", "insects", *words)[0] == 0
    code, out, _ = featood("cache", "ls", "--json")
    assert code == 0 and json.loads(out)[0]["classes"] == ["ant", "bee", "cat"]
    page = tmp_path / "report.html"
    words = ("--head", "msp", "--ood", "noise:uniform,n=20", "--json", "-", "--report", page)
    code, out, err = featood("score", *words)
    assert code == 0, err
    assert [row["class"] for row in json.loads(out)["id"]["classes"]] == ["ant", "bee", "cat"]
    assert "Classes of the ID set" in page.read_text() and "bee" in page.read_text()


def test_joined_sets_keep_their_classes_and_outlive_their_members(tmp_path, featood, toy_images):
    import shutil

    from featood.cache import open_cache

    for seed in ("1", "2"):
        words = ("--weights", "random", "--seed", seed, "--name", f"net{seed}", "--image-size", "16")
        assert featood("extract", "--backbone", "cifar-resnet20", "--dataset", "toy", *words)[0] == 0
    assert featood("cache", "join", "both", "net1", "net2")[0] == 0
    assert featood("score", "--backbone", "both", "--head", "msp", "--ood", "odd")[0] == 0
    cache = open_cache(tmp_path / "cache")
    assert cache["both/toy/test"].classes == cache["net1/toy/test"].classes
    shutil.rmtree(tmp_path / "cache" / "net1")
    code, _, err = featood("score", "--backbone", "both", "--head", "msp", "--ood", "odd")
    assert code == 0, err
