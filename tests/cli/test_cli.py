import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

NET = ("--backbone", "cifar-resnet20", "--weights", "random", "--image-size", "16")


def test_import_and_help_load_neither_torch_nor_torchvision():
    script = (
        "import sys; sys.argv = ['featood', '--help']\n"
        "import featood\n"
        "from featood.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'faiss', 'matplotlib', 'zarr', 'h5py'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "extract" in done.stdout


def test_help_and_completion_work_without_torch():
    script = """
import sys
for name in ("torch", "torchvision", "timm"):
    sys.modules[name] = None
from click.shell_completion import ShellComplete
from featood.cli.root import COMMANDS, root

# names and options of models and acquisitions are read from their classes
pages = [[name] for name in COMMANDS if name not in ("train", "active-learning")]
for words in [*pages, ["fit", "knn"], ["tune", "knn"], ["evaluate", "ddu"], ["cache", "ls"]]:
    root([*words, "--help"], standalone_mode=False)
complete = ShellComplete(root, {}, "featood", "").get_completions
for words, last, expected in (
    (["fit"], "knn", "knn"), (["score", "--head"], "ms", "msp"), (["score"], "--shi", "--shifted"),
    (["extract", "--dataset"], "cifar10", "cifar10"),
):
    assert expected in {item.value for item in complete(words, last)}, words
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--shifted" in done.stdout


def test_extract_fit_score_from_end_to_end(featood, toy_images, tmp_path):
    code, out, err = featood("extract", *NET, "--dataset", "toy")
    assert code == 0, err
    assert "cifar-resnet20@random/toy/train: 90 rows" in out and "toy/test: 60 rows" in out
    for head in ("msp", "mahalanobis"):
        code, out, err = featood("fit", head)
        assert code == 0, err
        assert "saved in" in out and "fitting" in err
    results, table, scores, page = (tmp_path / name for name in ("r.json", "r.csv", "s.parquet", "r.html"))
    code, out, err = featood(
        "score", "--ood", "odd", "--json", results, "--csv", table, "--scores", scores, "--report", page
    )
    assert code == 0, err
    assert "extracting it with the settings of" in err and "random" in err
    body = json.loads(results.read_text())
    assert body["schema"] == 1 and body["backbone"] == "cifar-resnet20@random"
    assert body["id"]["dataset"] == "toy" and body["id"]["split"] == "test" and body["id"]["n"] == 60
    assert {row["head"] for row in body["rows"]} == {"msp", "mahalanobis"}
    for row in body["rows"]:
        assert row["ood"] == "odd" and row["n_ood"] == 50 and 0 <= row["auroc"] <= 1
        assert {
            "aupr_in",
            "aupr_out",
            "fpr95",
            "fpr95_ood",
            "detection_error",
            "autc",
            "fit_s",
            "score_s",
        } <= set(row)
    assert len(list(csv.DictReader(table.open()))) == 2
    assert "mahalanobis" in page.read_text()

    import pyarrow.parquet as pq
    from sklearn.metrics import roc_auc_score

    rows = pq.read_table(scores).to_pydict()
    mine = [i for i, head in enumerate(rows["head"]) if head == "mahalanobis"]
    truth = [rows["dataset"][i] == "odd" for i in mine]
    expected = roc_auc_score(truth, [rows["score"][i] for i in mine])
    (row,) = [row for row in body["rows"] if row["head"] == "mahalanobis"]
    assert row["auroc"] == pytest.approx(expected, abs=1e-12)

    # the newest in-distribution extraction is toy, although odd was extracted later
    code, _, err = featood("fit", "energy")
    assert code == 0 and "toy/train" in err
    code, out, _ = featood("score", "--head", "energy", "--ood", "odd", "--json", "-")
    assert code == 0 and json.loads(out)["rows"][0]["head"] == "energy"


def test_zarr_and_hdf5_caches_give_identical_scores(featood, toy_images, tmp_path):
    found = {}
    for store in ("zarr", "hdf5"):
        root = ("--cache", str(tmp_path / store))
        assert featood("extract", *NET, "--dataset", "toy", "--store", store, *root)[0] == 0
        assert featood("fit", "mahalanobis", *root)[0] == 0
        code, out, err = featood("score", "--ood", "odd", "--json", "-", *root)
        assert code == 0, err
        found[store] = json.loads(out)
    for body in found.values():
        del body["run"]  # names the cache
        for row in body["rows"]:
            del row["fit_s"], row["score_s"]
    assert found["zarr"] == found["hdf5"]


def test_odin_archives_and_an_imagenet_folder(featood, tmp_path, monkeypatch):
    """Run extract, fit and score on generated images with random weights."""
    from PIL import Image

    rng = np.random.default_rng(0)

    def picture(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)

    data = tmp_path / "data"
    for split, count in (("train", 6), ("val", 3)):
        for wnid in ("n01440764", "n01443537"):
            for row in range(count):
                picture(data / "imagenet" / split / wnid / f"{wnid}_{row}.JPEG", (60, 70))
    for row in range(5):
        picture(data / "LSUN" / "test" / f"{row}.png", (36, 36))
    monkeypatch.setenv("FEATOOD_DATA", str(data))
    # tests download nothing, so weights are random
    code, out, err = featood(
        "extract",
        "--backbone",
        "resnet18",
        "--dataset",
        "imagenet",
        "--weights",
        "random",
        "--image-size",
        "64",
    )
    assert code == 0, err
    assert "resnet18@random/imagenet/train: 12 rows" in out and "imagenet/val: 6 rows" in out
    code, out, err = featood("fit", "mahalanobis")
    assert code == 0, err
    code, out, err = featood("score", "--ood", "lsun-crop")
    assert code == 0, err
    assert "lsun-crop" in out and "random" in err


def import_toy(featood, tmp_path, split="train", rows=80, size=6, seed=0, name="minilm", **extra):
    rng = np.random.default_rng(seed)
    np.save(tmp_path / "x.npy", rng.normal(size=(rows, size)))
    np.save(tmp_path / "y.npy", rng.integers(0, 4, rows))
    return featood(
        "import", "--features", tmp_path / "x.npy", "--labels", tmp_path / "y.npy",
        "--backbone", name, "--dataset", extra.get("dataset", "news"), "--split", split, *extra.get("more", ()),
    )  # fmt: skip


def test_imported_embeddings_are_scored(featood, tmp_path):
    assert import_toy(featood, tmp_path)[0] == 0
    assert import_toy(featood, tmp_path, "test", 40, seed=1)[0] == 0
    assert import_toy(featood, tmp_path, "test", 30, seed=2, dataset="spam", more=("--ood",))[0] == 0
    assert featood("fit", "mahalanobis")[0] == 0
    code, out, err = featood("score", "--ood", "spam", "--json", "-")
    assert code == 0, err
    assert json.loads(out)["rows"][0]["n_ood"] == 30
    code, _, err = featood("score", "--ood", "cifar100")
    assert code == 3 and "featood import" in err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("fit", "mahalanobs"), 2, "mahalanobis"),
        (("fit", "mahalanobis", "--ridge", "-1"), 2, "ridge"),
        (("fit", "mahalanobis", "--nope", "1"), 2, "--nope"),
        (("fit", "mahalanobis", "--split", "val"), 3, "no val split"),
        (("fit", "mahalanobis", "--dataset", "cifar10"), 3, "not in the cache"),
        (("score",), 2, "no head is fitted"),
        (("score", "--head", "energy"), 3, "needs logits"),
        (("score", "--head", "mahalanobis", "--ood", "x"), 2, "featood fit mahalanobis"),
        (
            ("extract", "--backbone", "lenet", "--dataset", "cifar10", "--weights", "random"),
            3,
            "cifar10 is not in",
        ),
        (("extract", "--backbone", "lenet", "--dataset", "digits"), 2, "--weights random"),
        (("extract", "--backbone", "lenet", "--dataset", "nonesuch", "--weights", "random"), 2, "nonesuch"),
        (("extract", "--backbone", "lenet", "--dataset", "digits", "--mean", "a,b"), 2, "comma-separated"),
        (("extract", "--backbone", "lenet", "--dataset", "digits", "--weights", "no.pt"), 3, "no.pt"),
        (("cache", "verify", "a/b/c"), 3, "not in the cache"),
        (("cache", "export", "a/b/c", "out", "--format", "npy"), 3, "not in the cache"),
        (("import", "--features", "none.npy", "--backbone", "a", "--dataset", "b"), 3, "does not exist"),
    ],
)
def test_errors_have_one_line_and_the_right_exit_code(featood, tmp_path, monkeypatch, words, code, text):
    monkeypatch.setenv("FEATOOD_DATA", str(tmp_path / "nothing"))
    import_toy(featood, tmp_path)
    import_toy(featood, tmp_path, "test")
    if words == ("score", "--head", "energy"):
        words = (*words, "--ood", "news2")
        import_toy(featood, tmp_path, "test", dataset="news2", more=("--ood",))
    got, _, err = featood(*words)
    assert got == code, err
    assert text in err
    assert "Traceback" not in err


def test_nan_in_imported_features_is_refused(featood, tmp_path):
    x = np.zeros((10, 3))
    x[4, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    code, _, err = featood("import", "--features", tmp_path / "x.npy", "--backbone", "a", "--dataset", "b")
    assert code == 3 and "row 4" in err


def test_pickles_in_array_files_are_never_loaded(featood, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    code, _, err = featood("import", "--features", tmp_path / "x.npy", "--backbone", "a", "--dataset", "b")
    assert code == 3 and "one array of numbers" in err


def test_features_of_another_backbone_are_refused_unless_forced(featood, tmp_path):
    for name in ("first", "second"):
        import_toy(featood, tmp_path, name=name)
        import_toy(featood, tmp_path, "test", name=name)
        import_toy(featood, tmp_path, "test", name=name, dataset="spam", more=("--ood",))
    assert featood("fit", "mahalanobis", "--backbone", "first", "--out", tmp_path / "head")[0] == 0
    words = ("score", "--backbone", "second", "--head", tmp_path / "head", "--ood", "spam")
    code, _, err = featood(*words)
    assert code == 5 and "differing: backbone" in err
    assert featood(*words, "--force")[0] == 0


def test_a_corrupt_cache_ends_with_code_four_and_names_the_block(featood, tmp_path):
    import_toy(featood, tmp_path)
    (shard,) = (tmp_path / "cache").glob("minilm/news/train/columns/features/c/0/0")
    shard.write_bytes(shard.read_bytes()[:-7])
    code, out, _ = featood("cache", "verify")
    assert code == 4 and "block 0" in out
    code, _, err = featood("fit", "mahalanobis")
    assert code == 4 and "block 0" in err and "again" in err


def test_listings_as_json(featood, tmp_path):
    import_toy(featood, tmp_path)
    names = {row["name"] for row in json.loads(featood("heads", "--json")[1])}
    assert {"msp", "energy", "mahalanobis"} <= names
    assert {row["name"] for row in json.loads(featood("datasets", "--json")[1])["datasets"]} >= {
        "cifar10",
        "lsun-crop",
    }
    (row,) = json.loads(featood("cache", "ls", "--json")[1])
    assert row["key"] == "minilm/news/train" and row["complete"] and row["rows"] == 80
    assert featood("heads")[0] == featood("datasets")[0] == featood("cache", "ls")[0] == 0


def test_help_lists_every_command_and_head(featood, monkeypatch):
    from featood.cli.root import COMMANDS, root
    from featood.heads import list_heads

    monkeypatch.setenv("COLUMNS", "60")
    for name, listed in COMMANDS.items():
        assert listed.text == root.get_command(None, name).help.split("\n")[0], name
    page = featood("--help")[1]
    assert all(f"  {name} " in page for name in COMMANDS)
    listed, fits = featood("heads")[1], featood("fit", "--help")[1]
    assert all(f"\n  {name} " in listed and name in fits for name in list_heads())
    assert max(map(len, [*listed.splitlines(), *page.splitlines(), *fits.splitlines()])) <= 60
    page = featood("fit", "knn", "--help")[1]
    assert (
        page.index("Options of knn")
        < page.index("--k ")
        < page.index("Options of every fit")
        < page.index("--out")
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_extraction_ends_with_130_and_resumes(toy_images, tmp_path, number):
    import zipfile

    big = np.zeros((4000, 32, 32, 3), np.uint8)
    np.savez(toy_images / "toy" / "train.npz", images=big, labels=np.zeros(4000, np.int64))
    assert zipfile.is_zipfile(toy_images / "toy" / "train.npz")
    command = [sys.executable, "-m", "featood", "extract", *NET, "--dataset", "toy", "--split", "train"]
    env = {**os.environ, "FEATOOD_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stderr:  # type: ignore[union-attr]
            if line.startswith("transform"):
                break
        while not list((tmp_path / "cache").glob("*/*/*/manifest.json")):
            time.sleep(0.01)
        process.send_signal(number)
        err = process.stderr.read()  # type: ignore[union-attr]
    assert process.returncode == 130, err
    assert "same command again" in err and "Traceback" not in err
