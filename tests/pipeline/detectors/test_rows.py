"""Detectors of features: featood threshold and predict on imported embeddings and tables."""

import json

import numpy as np
import pytest


@pytest.fixture
def run(featood, tmp_path, monkeypatch):
    """Run commands in a folder with embeddings of two splits and of new rows; return standard output and error."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        np.save(f"{name}.npy", rng.normal(size=(200, 6)).astype("f4"))
    np.save("new.npy", np.r_[rng.normal(size=(3, 6)), rng.normal(8, 1, (2, 6))].astype("f4"))

    def run(*words, code=0):
        found, out, err = featood(*words)
        assert found == code, err
        return out, " ".join(err.split())

    return run


@pytest.fixture
def made(run):
    """Import both splits, and return what ``threshold`` prints of them."""
    for name in ("train", "test"):
        run(
            "import",
            "--features",
            f"{name}.npy",
            "--backbone",
            "encoder",
            "--dataset",
            "texts",
            "--split",
            name,
        )
    run("fit", "knn", "--space", "none")
    return " ".join(run("threshold", "knn", "--out", "detector"))


def decisions(run, *words):
    return [json.loads(line) for line in run("predict", "detector", *words, "--json")[0].splitlines()]


def test_embeddings_from_another_program_get_decisions(run, made):
    assert "detector decides on features, not images" in made
    assert "calibrated on encoder/texts/test, 200 rows" in made
    decided = decisions(run, "new.npy")
    assert [one["out"] for one in decided[3:]] == [True, True] and not all(one["out"] for one in decided[:3])
    assert [one["id"] for one in decided] == [f"new.npy#{row}" for row in range(5)]
    # several arrays, with names of the rows
    np.savez("new.npz", features=np.load("new.npy"), other=np.zeros((5, 2)), ids=np.array(list("abcde")))
    assert [one["id"] for one in decisions(run, "new.npz")] == [f"new.npz#{name}" for name in "abcde"]
    _, said = run("predict", "detector", "new.npy", "--false-share", "0.2", "--exit-code", code=1)
    assert "2 of 5 rows are out-of-distribution, of which at most" in said


def test_probes_tell_whether_the_encoder_is_the_same(run, made, tmp_path):
    card = (tmp_path / "detector" / "README.md").read_text()
    assert "Probes, to test that features are computed as before: 0, 1, 2, 3, 4, 5, 6, 7" in card
    probes = np.load("test.npy")[:8]
    np.save("probes.npy", probes + 1e-4)
    run("predict", "detector", "new.npy", "--probes", "probes.npy")
    np.save("probes.npy", probes[:, ::-1])
    _, said = run("predict", "detector", "new.npy", "--probes", "probes.npy", code=5)
    assert "the encoder has changed" in said


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (np.zeros((4, 5)), 5, "fitted on 6 features columns"),
        (np.zeros(4), 3, "one value per row"),
        ({"a": np.zeros((4, 6)), "b": np.zeros((4, 6))}, 3, "has no array 'features'"),
        (np.full((2, 6), np.nan), 3, "finite"),
        (None, 3, "does not exist"),
    ],
)
def test_files_without_such_rows_are_refused(run, made, content, code, message):
    if isinstance(content, dict):
        np.savez("file", **content)
    elif content is not None:
        np.savez("file", content)
    assert message in run("predict", "detector", "file.npz", code=code)[1]


def test_options_that_do_not_apply_are_refused(run, made, tmp_path):
    assert "omit --neighbours" in run("predict", "detector", "new.npy", "--neighbours", "2", code=2)[1]
    plain = tmp_path / "cache" / "encoder" / "texts" / "heads" / "knn"
    assert "has no threshold" in run("predict", str(plain), "new.npy", code=2)[1]


def test_rows_of_a_table_are_scaled_as_the_table_was(run, tmp_path):
    values = np.random.default_rng(1).normal([10, 200, 3000], [1, 20, 300], (400, 3))
    rows = [",".join([*map(str, row), "ab"[number % 2]]) for number, row in enumerate(values)]
    (tmp_path / "things.csv").write_text("\n".join(["width,height,depth,kind", *rows]))
    run("import", "--file", "things.csv", "--label", "kind", "--scale", "standard")
    run("fit", "mahalanobis")
    run("threshold", "mahalanobis", "--out", "detector")
    # columns in another order, with the former label and a new one
    (tmp_path / "new.csv").write_text("height,kind,depth,width,note\n200,a,3000,10,x\n200,a,3000,90,y\n")
    assert [one["out"] for one in decisions(run, "new.csv")] == [False, True]
    (tmp_path / "less.csv").write_text("height,width\n1,2\n3,4\n")
    assert "no column 'depth'" in run("predict", "detector", "less.csv", code=3)[1]
