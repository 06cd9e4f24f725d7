"""Quick tries on some of the rows, which are never taken for the whole set."""

import json

import numpy as np
import pytest

from featood.cache import FeatureCache
from featood.data import near_and_far, open_dataset
from featood.data.catalogue.registry import dataset_key
from featood.errors import DataError
from featood.pipeline.leakage import overlap
from featood.pipeline.scoring import score

EXTRACT = ("extract", "--backbone", "lenet", "--weights", "random", "--dataset", "toy")


@pytest.fixture
def toy(featood, toy_images):
    code, _, err = featood(*EXTRACT, "--limit", "20")
    assert code == 0, err
    return featood


def test_limited_images_are_spaced_evenly_and_named_so(toy_images):
    whole, some = (open_dataset(name, "train") for name in ("toy", "toy:limit=20"))
    assert (some.name, len(some)) == ("toy:limit=20", 20) and "20 of 90 images" in some.notes[-1]
    rows = [int(row) for row in some.ids]
    assert rows == [number * 90 // 20 for number in range(20)]
    assert np.array_equal(some.labels, whole.labels[rows])
    assert len(open_dataset("toy:limit=900", "train")) == 90
    assert len(open_dataset(f"{toy_images}/toy/train.npz:limit=7")) == 7
    assert dataset_key("textures:limit=5") == "textures:limit=5"
    assert near_and_far("cifar10:limit=9", ["svhn:limit=5"]) == {"far": ["svhn:limit=5"]}
    assert overlap("cifar10:limit=5", "cifar10") and not overlap("cifar10:0-4,limit=5", "cifar10:5-9,limit=5")


def test_limited_sets_and_heads_have_other_names_than_the_whole(toy, tmp_path):
    assert toy("fit", "knn", "--limit", "9", "--k", "3")[0] == 0
    code, _, err = toy(
        "score", "--ood", "odd", "--limit", "10", "--head", "knn", "--json", tmp_path / "r.json"
    )
    assert code == 0, err
    results = json.loads((tmp_path / "r.json").read_text())
    (row,) = results["rows"]
    assert (row["head"], row["ood"], row["n_id"], row["n_ood"]) == ("knn@limit=9", "odd:limit=10", 20, 10)
    cache = FeatureCache(tmp_path / "cache")
    assert {key.split("/")[1] for key in cache} == {"toy-limit-20", "odd-limit-10"}
    assert toy(*EXTRACT)[0] == 0  # the whole set is extracted next to it
    (whole,) = (key for key in cache if key.endswith("/toy/train"))
    assert len(cache[whole]) == 90


def test_some_rows_of_a_set_are_not_scored_against_the_set(toy, tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    key = next(key for key in cache if key.endswith("/test"))
    with pytest.raises(DataError, match="is the in-distribution set"):
        score({}, cache[key], {"toy": cache[key]})


def test_imported_features_have_no_limit(featood):
    assert featood("import", "--table", "two-moons", "--rows", "60")[0] == 0
    assert featood("fit", "knn", "--k", "3")[0] == 0
    code, _, err = featood("score", "--ood", "table-noise:uniform", "--limit", "5")
    assert code == 2 and "was not extracted from images" in err
