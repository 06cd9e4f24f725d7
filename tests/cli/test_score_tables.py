"""The table of ``featood score``: formats, order, and OpenOOD's files."""

import csv
import io

import numpy as np
import pytest

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.testing.fixture import synthetic_sets

_, TEST = synthetic_sets()
SETS = ("cifar100", "tiny-imagenet", "mnist", "svhn")
SCORE = ("score", "--head", "msp", "--head", "max-logit", "--head", "norm", "--suite", "cifar10-near",
         "--suite", "cifar10-far")  # fmt: skip


@pytest.fixture
def cifar(tmp_path, featood):
    cache = FeatureCache(tmp_path / "cache")
    known, odd = TEST.rows(np.asarray(TEST.labels) >= 0), TEST.rows(np.asarray(TEST.labels) < 0)

    def put(name, part, shift=0.0, **rest):
        values = np.asarray(part.features["avg"]) + np.float32(shift)
        import_arrays(
            cache, f"net/{name}/test", {"avg": values}, part.logits, part.labels, part.classifier, **rest
        )

    put("cifar10", known)
    for number, name in enumerate(SETS):
        put(name, odd, number / 5, run={"role": "ood"})
    return featood


def test_the_table_has_near_and_far_and_fits_80_columns(cifar, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = cifar(*SCORE)
    assert code == 0, err
    assert "left out: net/textures is not in the cache" in err
    assert max(map(len, out.splitlines())) <= 80
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")][1:9] == [
        "near", "cifar100", "tiny-imagenet", "far", "mnist", "svhn", "near", "cifar100"
    ]  # fmt: skip
    assert "far: mean over mnist, svhn" in out


def test_documents_replace_the_table_and_options_apply_to_them(cifar):
    code, out, err = cifar(*SCORE, "--format", "csv", "--sort", "fpr95:far", "--top", "2")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    far = [float(row["fpr95"]) for row in rows if row["ood"] == "far"]
    assert len(far) == 2 and far == sorted(far)
    assert cifar(*SCORE, "--format", "markdown")[1].count("\n| ") == 1 + 3 * 7
    assert cifar(*SCORE, "--format", "latex")[1].rstrip().endswith(r"\end{tabular}")


def test_a_wrong_metric_is_refused_before_anything_is_scored(cifar):
    code, out, err = cifar(*SCORE, "--sort", "fpr")
    assert code == 2 and err == "error: --sort fpr: 'fpr' is not a metric; did you mean fpr95?\n" and not out


def test_files_of_openood_are_written_for_each_head(cifar, tmp_path):
    code, _, err = cifar(*SCORE, "--openood", tmp_path / "openood")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "openood").iterdir()) == [
        "max-logit.csv",
        "msp.csv",
        "norm.csv",
    ]
    lines = (tmp_path / "openood" / "msp.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "", "cifar100", "tin", "nearood", "mnist", "svhn", "farood"
    ]  # fmt: skip
