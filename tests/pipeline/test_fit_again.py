"""A fit next to an existing head: other settings are stored separately, and nothing is replaced silently."""

import numpy as np
import pytest
from reporters import Kept

from featood.cache import FeatureCache, import_arrays
from featood.errors import UsageError
from featood.heads import load_head
from featood.pipeline.fitted_heads import find_heads
from featood.pipeline.fitting import FitPlan, fit_head
from featood.pipeline.selection import select
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()


@pytest.fixture
def selection(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    odd = TEST.rows(np.asarray(TEST.labels) < 0)
    for split, data in (
        ("train", TRAIN.rows(np.asarray(TRAIN.labels) >= 0)),
        ("test", TRAIN.rows(range(40))),
    ):
        import_arrays(cache, f"net/news/{split}", {"avg": data.features["avg"], "std": data.features["avg"][:, :2]},
                      logits=data.logits, labels=data.labels)  # fmt: skip
    import_arrays(cache, "net/spam/test", {"avg": odd.features["avg"], "std": odd.features["avg"][:, :2]},
                  logits=odd.logits, run={"role": "ood"})  # fmt: skip
    return select(cache, "net", "news")


@pytest.fixture
def fit(selection):
    def run(name, options=None, **rest):
        kept = Kept()
        head, folder = fit_head(selection, name, options, FitPlan(**rest), reporter=kept)
        return head, folder, [line for line in kept.lines if not line.startswith("fitting")]

    return run


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_other_options_are_kept_beside_those_that_are_there(selection, fit):
    _, folder, said = fit("knn")
    assert folder.name == "knn" and said == []
    before = files(folder)
    head, other, said = fit("knn", {"k": 7})
    assert other.name == "knn@k=7" and head.k == 7 and files(folder) == before
    assert (
        len(said) == 1
        and "differing: k" in said[0]
        and "stored as knn@k=7" in said[0]
        and "--overwrite" in said[0]
    )
    assert set(find_heads(selection)) == {"knn", "knn@k=7"}


def test_defaults_over_other_options_are_kept_beside_them_too(fit):
    fit("knn", {"k": 7})
    head, folder, _ = fit("knn")
    assert folder.name == f"knn@k={head.k}" and head.k != 7


def test_labels_tell_all_that_is_not_usual_so_that_they_never_collide(fit):
    fit("knn", {"k": 7, "feature": "std"})
    names = {
        fit("knn", options)[1].name
        for options in ({"k": 8}, {"k": 8, "feature": "std"}, {"k": 7, "feature": "avg"})
    }
    assert len(names) == 3
    for name, options in (("k", {"k": 8}), ("both", {"k": 8, "feature": "std"})):
        head, folder, said = fit("knn", options)
        assert load_head(folder).options == head.options, name
        assert any("same options" in line for line in said)


def test_the_same_options_again_say_so_and_give_the_same(fit):
    for name, options in (
        ("knn", {"k": 7}),
        ("mlp", {"epochs": 1, "depth": 2, "width": 4}),
        ("rank-average", {"members": ("knn", "energy")}),
    ):
        _, folder, _ = fit(name, options)
        tensors = (folder / "head.safetensors").read_bytes()
        _, again, said = fit(name, options)
        assert again == folder and (folder / "head.safetensors").read_bytes() == tensors
        assert [line for line in said if "same options and is fitted again" in line]


def test_overwrite_replaces_and_says_what_differed(selection, fit):
    fit("knn", {"k": 7})
    head, folder, said = fit("knn", {"k": 3}, overwrite=True)
    assert folder.name == "knn" and load_head(folder).k == 3 == head.k
    assert said == ["knn replaces one that was fitted with other settings (differing: k)"]
    assert set(find_heads(selection)) == {"knn"}


def test_another_split_or_other_outliers_are_another_fit(fit):
    fit("knn", {"k": 3})
    _, folder, said = fit("knn", {"k": 3}, split="test")
    assert "split" in said[0] and "split=test" in folder.name
    _, other, said = fit("mlp", {"epochs": 1, "validation": 0.2})
    _, chosen, said = fit("mlp", {"epochs": 1, "validation": 0.2}, validate_on="spam")
    assert "validate_on=spam" in chosen.name and other.name == "mlp"


def test_a_folder_that_a_user_names_is_not_replaced_unasked(fit, tmp_path):
    fit("knn", {"k": 7}, out=tmp_path / "mine")
    before = files(tmp_path / "mine")
    for name, options in (("knn", {"k": 3}), ("mahalanobis", {})):
        with pytest.raises(UsageError, match=r"fitted with other settings.*--overwrite"):
            fit(name, options, out=tmp_path / "mine")
    assert files(tmp_path / "mine") == before
    fit("mahalanobis", out=tmp_path / "mine", overwrite=True)
    assert load_head(tmp_path / "mine").name == "mahalanobis"


def test_what_cannot_be_used_or_is_of_other_features_is_replaced_with_a_word(selection, fit, tmp_path):
    _, folder, _ = fit("knn", {"k": 7})
    (folder / "head.json").write_bytes(b"{")
    _, again, said = fit("knn", {"k": 3})
    assert again == folder and "cannot be used" in said[0] and "damaged" in said[0]
    rows = TRAIN.rows(np.asarray(TRAIN.labels) >= 0)
    import_arrays(
        selection.cache, "net/news/train", {"avg": rows.features["avg"]}, labels=rows.labels, overwrite=True
    )
    _, again, said = fit("knn", {"k": 3})
    assert again == folder and "other features" in said[0]


def test_the_command_keeps_a_slip_beside_the_fit_it_was_meant_to_repeat(featood, selection):
    where = ("--backbone", "net", "--dataset", "news")
    assert featood("fit", "knn", "--k", 10, *where)[0] == 0
    code, out, err = featood("fit", "knn", "--k", 1_000_000, *where)
    assert code == 0 and "knn@k=1000000" in out and "--overwrite" in err
    code, out, _ = featood("score", "--ood", "spam", *where)
    assert code == 0 and "knn" in out and "knn@k=1000000" in out
    assert load_head(find_heads(selection)["knn"]).k == 10
    code, out, err = featood("fit", "knn", "--k", 20, "--overwrite", *where)
    assert code == 0 and "replaces" in err and load_head(find_heads(selection)["knn"]).k == 20
    code, _, err = featood("tune", "knn", "--grid", "k=2,3", "--validation-ood", "spam", *where)
    assert code == 0 and "stored as knn@k=" in err
