"""Detectors of PyOD as heads, compared with PyOD called directly on the same rows."""

import ast
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from featood.errors import DataError, Mismatch, MissingPackage, UsageError
from featood.heads import create_head, head_entry, list_heads, load_head
from featood.heads.outliers._pyod import detector_head
from featood.heads.outliers._pyod_table import pyod_cards, read_detectors
from featood.testing import check_head, synthetic_sets

TRAIN, TEST = synthetic_sets()
BANK = TRAIN.features["avg"][TRAIN.labels >= 0]
ROWS = TEST.features["avg"]
HEADS, REFUSED = read_detectors()
TAILS = ("ECOD", "COPOD")
needs_pyod = pytest.mark.skipif(find_spec("pyod") is None, reason="PyOD is not installed")


def theirs(name, module=None, **options):
    from importlib import import_module

    detector = getattr(import_module(f"pyod.models.{module or HEADS[name]['module']}"), name)
    return detector(**options).fit(BANK.astype(float))


@needs_pyod
@pytest.mark.parametrize("name", [name for name in HEADS if name not in TAILS])
def test_scores_are_those_of_pyod(name, tmp_path):
    head = create_head(f"pyod:{name}").fit(BANK)
    seed = {"random_state": 0} if head.seeded else {}
    expected = theirs(name, **seed).decision_function(ROWS.astype(float))
    np.testing.assert_allclose(head.score(ROWS), expected, rtol=1e-9)
    head.save(tmp_path / "head")
    assert sorted(path.name for path in (tmp_path / "head").iterdir()) == [
        "README.md",
        "head.json",
        "head.safetensors",
    ]
    assert np.array_equal(load_head(tmp_path / "head").score(ROWS), head.score(ROWS))


@needs_pyod
@pytest.mark.parametrize("name", TAILS)
def test_tails_are_those_of_pyod_for_each_row_alone(name):
    detector = theirs(name)
    rows = np.concatenate([ROWS, BANK[:20], ROWS * 10])  # also values that are among the training rows
    expected = [detector.decision_function(row[None].astype(float))[0] for row in rows]
    np.testing.assert_allclose(create_head(f"pyod:{name}").fit(BANK).score(rows), expected, rtol=1e-9)


@needs_pyod
def test_options_are_those_of_pyod():
    options = {option.name: option for option in head_entry("pyod:KNN").options}
    assert options["n_neighbors"].kind == "int" and options["n_neighbors"].default == 5
    assert "n_jobs" not in options and options["contamination"].help.startswith("The amount of contamination")
    found = create_head("pyod:KNN", n_neighbors=3, method="mean").fit(BANK).score(ROWS)
    expected = theirs("KNN", n_neighbors=3, method="mean").decision_function(ROWS.astype(float))
    np.testing.assert_allclose(found, expected)


@needs_pyod
def test_texts_of_the_command_line_become_numbers_and_none():
    for text, value in (("3", 3), ("0.9", 0.9), ("none", None), ("mle", "mle")):
        assert create_head("pyod:PCA", n_components=text).options["n_components"] == value
    found = create_head("pyod:PCA", n_components="3", seed=1).fit(BANK).score(ROWS)
    expected = theirs("PCA", n_components=3, random_state=1).decision_function(ROWS.astype(float))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@needs_pyod
def test_a_sample_of_the_rows_is_kept():
    state = create_head("pyod:HBOS", rows=60, seed=1).fit(BANK).state
    assert state["rows"].shape == (60, BANK.shape[1]) and state["scores"].shape == (60,)


@needs_pyod
def test_other_scores_after_another_fit_are_refused():
    head = create_head("pyod:LOF").fit(BANK)
    state = dict(head.state)
    head.prepare(state)
    with pytest.raises(Mismatch, match="other scores than when it was fitted"):
        head.prepare({**state, "scores": state["scores"] * 1.01})


@needs_pyod
def test_what_pyod_refuses_is_one_line():
    with pytest.raises(
        UsageError, match="cannot be fitted to 300 rows with these options: The 'metric'"
    ) as error:
        create_head("pyod:KNN", metric="nonsense").fit(BANK)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="no finite score"):
        create_head("pyod:PCA").fit(np.concatenate([BANK, np.zeros((len(BANK), 2))], axis=1))


@needs_pyod
@pytest.mark.parametrize("name", ["ECOD", "LODA"])
def test_conformance(name):
    check_head(f"pyod:{name}")


@needs_pyod
def test_heads_are_no_part_of_the_list_and_can_be_copied_to_other_processes():
    head = create_head("pyod:ECOD").fit(BANK)
    assert not [name for name in list_heads() if name.startswith("pyod")]
    assert np.array_equal(pickle.loads(pickle.dumps(head)).score(ROWS), head.score(ROWS))


@needs_pyod
def test_the_table_has_every_detector_of_pyod():
    found = set()
    for path in Path(find_spec("pyod").submodule_search_locations[0], "models").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any("Base" in ast.unparse(base) for base in node.bases):
                found.add(node.name)
    assert {*HEADS, *REFUSED} == found - {"BaseDetector", "BaseDeepLearningDetector"}


@needs_pyod
@pytest.mark.parametrize("name", ["COF", "LMDD", "SOS"])  # the others take half a minute
def test_those_refused_as_relative_score_a_row_by_the_others(name):
    assert "relative to the others" in REFUSED[name]
    detector, rows = theirs(name, name.lower()), ROWS[:60].astype(float)
    parts = [detector.decision_function(part) for part in (rows[:30], rows[30:])]
    assert np.abs(np.concatenate(parts) - detector.decision_function(rows)).max() > 1e-3


def test_names_that_are_no_heads():
    for name, reason in REFUSED.items():
        with pytest.raises(UsageError, match="is no head: it") as error:
            create_head(f"pyod:{name}")
        assert reason in str(error.value)
    with pytest.raises(UsageError, match="no head 'pyod:ecod'; did you mean pyod:ECOD"):
        create_head("pyod:ecod")


def test_without_pyod_the_line_names_the_extra(monkeypatch, featood):
    monkeypatch.setitem(sys.modules, "pyod", None)
    monkeypatch.setitem(sys.modules, "pyod.models.ecod", None)
    detector_head.cache_clear()
    with pytest.raises(MissingPackage, match=r"pyod:ECOD needs PyOD: pip install -U 'featood\[pyod\]'"):
        create_head("pyod:ECOD")
    code, out, _ = featood("heads", "pyod")
    assert code == 0 and all(card.name in out for card in pyod_cards())
    assert featood("fit", "pyod:ECOD")[0] == 2


@needs_pyod
def test_an_artefact_without_pyod_is_not_called_damaged(monkeypatch, tmp_path):
    create_head("pyod:HBOS").fit(BANK).save(tmp_path / "head")
    monkeypatch.setitem(sys.modules, "pyod.models.hbos", None)
    detector_head.cache_clear()
    with pytest.raises(MissingPackage, match="needs PyOD"):
        load_head(tmp_path / "head")


@needs_pyod
def test_commands_take_the_name_with_its_colon(featood, tmp_path):
    np.save(tmp_path / "train.npy", BANK)
    place = ("--backbone", "x", "--dataset", "toy")
    code, _, err = featood("import", "--features", tmp_path / "train.npy", *place, "--split", "train")
    assert code == 0, err
    assert featood("fit", "pyod:LODA", "--n-bins", "20", *place)[0] == 0
    code, _, err = featood("fit", "pyod:LODA", *place)
    assert code == 0 and "stored as pyod:LODA@n_bins=10" in err, err
    folders = {path.name for path in (tmp_path / "cache" / "x" / "toy" / "heads").iterdir()}
    assert folders == {"pyod%3ALODA", "pyod%3ALODA@n_bins=10"}
    code, _, err = featood(
        "threshold", "pyod:LODA", "--split", "train", "--force", *place, "--out", tmp_path / "d"
    )
    assert code == 0, err
