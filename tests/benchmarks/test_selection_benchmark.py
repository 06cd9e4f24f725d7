import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from featood.testing.fixture import synthetic_sets

HEADS = ("mahalanobis", "norm", "energy")


@pytest.fixture
def selection(script, monkeypatch):
    """The script, with few heads."""
    module = script("selection")
    monkeypatch.setattr(module, "jobs", lambda: ["knn k=5"])
    monkeypatch.setattr("featood.pipeline.recommendation.list_heads", lambda: HEADS)
    return module


def test_heads_are_tried_once_and_criteria_compared_with_real_outliers(selection, tmp_path, capsys):
    train, test = (data.rows(np.asarray(data.labels) >= 0).to_torch() for data in synthetic_sets(rows=400))
    odd = {"spam": synthetic_sets()[1].rows(np.asarray(synthetic_sets()[1].labels) < 0).to_torch()}
    trials = selection.trials_of(train, test, odd)
    file, network = tmp_path / "a.jsonl", "mnist-convnet"
    for _ in range(2):
        done = {(line["network"], line["head"]) for line in selection.read(file)}
        selection.run(network, train, trials, done, file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["head"] for line in lines] == [*HEADS, "knn k=5"]
    kinds = set(lines[0]["auroc"])
    assert {"real spam", "unseen", "crossed", "scaled", "mixed", "permuted", "virtual outliers"} <= kinds
    selection.compose(network, train, trials, file)
    selection.tables(selection.read(file))
    real, unseen = ([line["auroc"][kind] for line in lines] for kind in ("real spam", "unseen"))
    shown = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("unseen  "))
    assert f"{spearmanr(real, unseen).statistic:.2f}" in shown
