"""Runs from a file: validation, order, and results that a written file repeats."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featood.cli.runs import run_as_toml

MISTAKES = """
[extrct]
a = 1

[extract]
dataste = "cifar10"
batch-size = "many"
backbone = "python:x:y"

[[fit]]
head = "knnn"

[[fit]]
head = "knn"
kk = 5
k = 2.5
space = "l3"
head-file = "x.py"

[[fit]]
k = 3

[score]
ood = 3
sort = ["a"]
all = "yes"
top = 0
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_every_mistake_is_reported_on_a_line_and_nothing_is_run(featood, tmp_path):
    path = write(tmp_path / "e.toml", MISTAKES)
    code, out, err = featood("run", path)
    assert code == 2 and not out and not (tmp_path / "cache").exists()
    *lines, last = err.splitlines()
    assert last == f"error: {path} has 15 mistakes; nothing was run" and len(lines) == 15
    assert [line.removeprefix(f"{path}: ") for line in lines] == [
        "extrct: there is no such step; did you mean extract?",
        "extract.dataste: there is no such key; did you mean dataset?",
        "extract.batch-size: must be a whole number, not text",
        "extract.backbone: code is not run because a file names it; add --code python:x:y to allow it",
        "extract.dataset is missing",
        "fit[1]: there is no head 'knnn'; did you mean knn?",
        "fit[2].kk: there is no such key; did you mean k?",
        "fit[2].k: must be a whole number, not 2.5",
        "fit[2].space: 'l3' is not one of 'none', 'standardize', 'l2', 'l2-standardize', 'l2-whiten', 'pca'",
        "fit[2].head-file: code is not named in files; name it on the command line of featood run",
        "fit[3]: head must name one, as text",
        "score.ood: must be text, not 3",
        "score.sort: takes one value, not a list",
        "score.all: must be true or false, not text",
        "score.top: 0 is not in the range x>=1",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "is not TOML"),
        ("", "contains no steps"),
        ("fit = 3", "fit must be a table, not 3"),
        (None, "cannot read"),
    ],
)
def test_files_that_are_no_runs_are_refused(featood, tmp_path, text, message):
    path = tmp_path / "e.toml"
    if text is not None:
        write(path, text)
    code, _, err = featood("run", path)
    assert code in (2, 3) and message in err


def test_a_run_goes_through_its_steps_in_their_order_and_results_carry_it(featood, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = """
    [score]
    ood = ["table-noise:gaussian", "table-noise:uniform"]
    json = "first.json"
    intervals = "delong"

    [[fit]]
    head = "knn"
    k = 7

    [[fit]]
    head = "gmm"

    [import]
    table = "two-moons"
    rows = 400
    parts = [60, 20, 20]
    """
    path = write(tmp_path / "e.toml", text)
    code, out, err = featood("run", path, "--dry-run")
    assert code == 0 and not (tmp_path / "cache").exists(), err
    assert out.splitlines() == [
        "featood import --table=two-moons --rows=400 --parts=60,20,20",
        "featood fit knn --k=7",
        "featood fit gmm",
        "featood score --ood=table-noise:gaussian --ood=table-noise:uniform --json=first.json --intervals=delong",
    ]
    code, out, err = featood("run", path)
    assert code == 0, err
    first = json.loads((tmp_path / "first.json").read_text())
    assert [row["head"] for row in first["rows"]] == ["gmm", "gmm", "knn", "knn"]
    run = first["run"]
    assert list(run) == ["import", "fit", "score"]
    assert run["fit"][0] == {
        "head": "knn", "k": 7, "backbone": "table-two-moons", "dataset": "two-moons"
    }  # fmt: skip
    assert run["score"][0]["dataset"] == "two-moons" and run["import"][0]["parts"] == [60, 20, 20]
    # again: steps that are done are not repeated, and the results are the same
    code, _, err = featood("run", "first.json")
    assert code == 0 and err.count("is fitted with these settings already") == 2, err
    second = json.loads((tmp_path / "first.json").read_text())
    # in a new cache, the file written from the results gives the same scores
    monkeypatch.setenv("FEATOOD_CACHE", str(tmp_path / "other"))
    write(tmp_path / "again.toml", run_as_toml(run))
    assert featood("run", "again.toml")[0] == 0
    third = json.loads((tmp_path / "first.json").read_text())

    def facts(results):
        times = ("fit_s", "score_s")
        rows = [{key: value for key, value in row.items() if key not in times} for row in results["rows"]]
        scores = {head: entry["scores"] for head, entry in results["evidence"]["heads"].items()}
        return rows, scores, results["comparison"], results["run"]

    assert facts(first) == facts(second) == facts(third)


def test_a_command_writes_the_file_that_repeats_it(featood, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert featood("import", "--table", "two-moons", "--rows", "300", "--write-run", "import.toml")[0] == 0
    assert tomllib.loads((tmp_path / "import.toml").read_text()) == {
        "import": {"table": "two-moons", "rows": 300}
    }
    code, _, err = featood("fit", "gmm", "--ridge", "0.001", "--write-run", "fit.toml")
    assert code == 0, err
    written = tomllib.loads((tmp_path / "fit.toml").read_text())["fit"][0]
    assert written["head"] == "gmm" and written["ridge"] == 0.001 and written["dataset"] == "two-moons"
    score = (
        "score",
        "--ood",
        "table-noise:uniform",
        "--json",
        "r.json",
        "--no-fold",
        "--write-run",
        "score.toml",
    )
    assert featood(*score)[0] == 0
    first = json.loads((tmp_path / "r.json").read_text())
    written = tomllib.loads((tmp_path / "score.toml").read_text())
    assert written["score"]["fold"] is False and first["run"] == {"score": [written["score"]]}
    (tmp_path / "r.json").unlink()
    code, _, err = featood("run", "score.toml")
    assert code == 0, err
    again = json.loads((tmp_path / "r.json").read_text())
    assert again["evidence"]["heads"] == first["evidence"]["heads"]


def test_code_that_the_command_line_does_not_name_is_not_run(featood, tmp_path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef net(): ...\n")
    name = f"python:{tmp_path / 'evil.py'}:net"
    path = write(tmp_path / "e.toml", f'[extract]\nbackbone = "{name}"\ndataset = "digits"\n')
    code, _, err = featood("run", path)
    assert code == 2 and "add --code" in err and not (tmp_path / "ran").exists()
    code, out, _ = featood("run", path, "--code", name, "--dry-run")
    assert code == 0 and "extract" in out and not (tmp_path / "ran").exists()


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUE = st.one_of(
    TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.lists(TEXT)
)


@given(st.dictionaries(st.sampled_from(["a", "b-c", "d"]), VALUE))
def test_written_values_are_read_unchanged(table):
    assert tomllib.loads(run_as_toml({"score": [table]})) == {"score": table}
