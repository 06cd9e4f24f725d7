import numpy as np
import pytest

from featood.cache import FeatureCache
from featood.speed.synthetic import clustered


class Pipe(list):
    send = list.append


@pytest.fixture
def growth(script):
    return script("growth")


def test_rows_are_those_of_the_blocks(growth, tmp_path):
    growth.write(FeatureCache(tmp_path), 5000, 6, 3)
    data = FeatureCache(tmp_path)[growth.KEY.format(rows=5000, features=6, classes=3)]
    blocks = [clustered(4096, 6, 3, seed=0), clustered(904, 6, 3, seed=1)]
    expected = np.concatenate([block.features["avg"] for block in blocks]).astype("f2")
    np.testing.assert_array_equal(np.asarray(data.features["avg"]), expected)
    labels = np.concatenate([block.labels for block in blocks])
    labels[:: growth.OUTLIERS] = -1
    np.testing.assert_array_equal(np.asarray(data.labels), labels)
    assert data.logits.dtype == np.float32 and data.classifier is not None


@pytest.mark.parametrize("name", ["energy", "mahalanobis", "knn"])
def test_figures_of_a_head(growth, name, tmp_path):
    growth.write(FeatureCache(tmp_path), 300, 6, 3)
    sent = Pipe()
    growth.work(sent, name, tmp_path, growth.KEY.format(rows=300, features=6, classes=3))
    assert [key for key, _ in sent] == ["start", "ready", "fit", "peak", "score", "peak"]
    found = dict(sent)
    assert found["score"] > 0 and found["peak"] >= found["start"] > 0
    assert (found["fit"] is None) == (name == "energy")


def test_exponents_are_of_the_two_largest_sizes(growth, tmp_path):
    rows = [
        {"head": name, "rows": n, "fit": n**power, "score": 3.0 * n, "peak": 100 + n / 2**20, "note": ""}
        for name, power in (("flat", 0), ("square", 2))
        for n in (10, 1000, 4000)
    ]
    rows[0]["fit"] = 1e9  # the smallest size does not count
    rows.append({**rows[-1], "rows": 8000, "note": "over 60 s"})
    flat, square = growth.exponents(rows)
    assert flat["fit"] == pytest.approx(0) and square["fit"] == pytest.approx(2)
    assert flat["score"] == square["score"] == pytest.approx(1)
    assert flat["bytes/row"] == pytest.approx(1)
    assert growth.exponents(rows[:1]) == []
    growth.plot(rows, tmp_path / "growth.svg")
    assert "<svg" in (tmp_path / "growth.svg").read_text()
