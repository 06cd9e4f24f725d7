"""A fit next to an existing head: other settings are stored separately, and nothing is replaced silently."""

import numpy as np
import pytest
from reporters import Kept

from featood.cache import FeatureCache, import_arrays
from featood.errors import Mismatch, UsageError
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


def test_fits_with_other_options_are_stored_next_to_existing_ones(selection, fit):
    _, folder, lines = fit("knn")
    assert folder.name == "knn" and lines == []
    before = files(folder)
    head, other, lines = fit("knn", {"k": 7})
    assert other.name == "knn@k=7" and head.k == 7 and files(folder) == before
    assert (
        len(lines) == 1
        and "differing: k" in lines[0]
        and "stored as knn@k=7" in lines[0]
        and "--overwrite" in lines[0]
    )
    assert set(find_heads(selection)) == {"knn", "knn@k=7"}


def test_default_options_are_stored_next_to_other_options(fit):
    fit("knn", {"k": 7})
    head, folder, _ = fit("knn")
    assert folder.name == f"knn@k={head.k}" and head.k != 7


def test_labels_list_all_differences_from_the_defaults_so_they_do_not_collide(fit):
    fit("knn", {"k": 7, "feature": "std"})
    names = {
        fit("knn", options)[1].name
        for options in ({"k": 8}, {"k": 8, "feature": "std"}, {"k": 7, "feature": "avg"})
    }
    assert len(names) == 3
    for name, options in (("k", {"k": 8}), ("both", {"k": 8, "feature": "std"})):
        head, folder, lines = fit("knn", options)
        assert load_head(folder).options == head.options, name
        assert lines[-1].startswith(f"{folder.name} is fitted with these settings already")


def test_a_fit_with_the_same_options_is_not_repeated_unless_asked_to(fit):
    for name, options in (
        ("knn", {"k": 7}),
        ("mlp", {"epochs": 1, "depth": 2, "width": 4}),
        ("rank-average", {"members": ("knn", "energy")}),
    ):
        first, folder, _ = fit(name, options)
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        head, again, lines = fit(name, options)
        assert again == folder and head.options == first.options
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
        assert lines[-1] == f"{name} is fitted with these settings already; --overwrite fits it again"
        tensors = (folder / "head.safetensors").read_bytes()
        _, again, lines = fit(name, options, overwrite=True)
        assert again == folder and (folder / "head.safetensors").read_bytes() == tensors
        assert not any("already" in line for line in lines)


def test_overwrite_replaces_and_reports_the_differences(selection, fit):
    fit("knn", {"k": 7})
    head, folder, lines = fit("knn", {"k": 3}, overwrite=True)
    assert folder.name == "knn" and load_head(folder).k == 3 == head.k
    assert lines == ["knn replaces one that was fitted with other settings (differing: k)"]
    assert set(find_heads(selection)) == {"knn"}


def test_fits_on_other_sets_are_stored_separately(fit):
    fit("knn", {"k": 3})
    _, folder, lines = fit("knn", {"k": 3}, split="test")
    assert "split" in lines[0] and "split=test" in folder.name
    _, other, lines = fit("mlp", {"epochs": 1, "validation": 0.2})
    _, chosen, lines = fit("mlp", {"epochs": 1, "validation": 0.2}, validate_on="spam")
    assert "validate_on=spam" in chosen.name and other.name == "mlp"


def test_a_given_folder_is_replaced_only_with_overwrite(fit, tmp_path):
    fit("knn", {"k": 7}, out=tmp_path / "mine")
    before = files(tmp_path / "mine")
    for name, options in (("knn", {"k": 3}), ("mahalanobis", {})):
        with pytest.raises(UsageError, match=r"fitted with other settings.*--overwrite"):
            fit(name, options, out=tmp_path / "mine")
    assert files(tmp_path / "mine") == before
    fit("mahalanobis", out=tmp_path / "mine", overwrite=True)
    assert load_head(tmp_path / "mine").name == "mahalanobis"


def test_a_damaged_head_is_replaced_with_a_message(fit):
    _, folder, _ = fit("knn", {"k": 7})
    (folder / "head.json").write_bytes(b"{")
    _, again, lines = fit("knn", {"k": 3})
    assert again == folder and "cannot be used" in lines[0] and "damaged" in lines[0]


@pytest.mark.parametrize("what", ["features", "rows"])
def test_heads_of_other_features_or_rows_are_replaced_only_with_overwrite(selection, fit, what):
    _, folder, _ = fit("knn", {"k": 7})
    before = files(folder)
    rows = TRAIN.rows(np.asarray(TRAIN.labels) >= 0)
    columns = {"avg": rows.features["avg"], "std": rows.features["avg"][:, :2]}
    if what == "features":
        del columns["std"]
    import_arrays(
        selection.cache, "net/news/train", {name: np.asarray(values) + 1 for name, values in columns.items()},
        logits=rows.logits, labels=rows.labels, overwrite=True,
    )  # fmt: skip
    with pytest.raises(Mismatch, match=f"fitted on other {what}; add --overwrite"):
        fit("knn", {"k": 7})
    assert files(folder) == before
    _, again, lines = fit("knn", {"k": 7}, overwrite=True)
    assert again == folder and lines[0] == f"knn replaces one that was fitted on other {what}"


def test_a_tuned_head_is_stored_next_to_an_untuned_one(featood, selection):
    where = ("--backbone", "net", "--dataset", "news")
    assert featood("fit", "knn", "--k", 2, *where)[0] == 0
    code, _, err = featood("tune", "knn", "--grid", "k=2", "--validation-ood", "spam", *where)
    assert code == 0 and "tuned_on=spam" in err
    heads = {name: load_head(folder).record.tuned for name, folder in find_heads(selection).items()}
    assert heads["knn"] is None and len(heads) == 2


def test_the_command_stores_a_mistyped_fit_next_to_the_existing_one(featood, selection):
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


def test_a_head_of_drawn_rows_is_recorded_and_named_so(selection):
    labels = np.asarray(selection.open("train").labels)
    few, folder = fit_head(selection, "knn", {"k": 1}, FitPlan(rows_per_class=4, rows_seed=2))
    assert folder.name == "knn@rows_per_class=4,rows_seed=2"
    assert few.record.rows == 4 * len(np.unique(labels))
    assert load_head(folder).record.fit == {"split": "train", "rows_per_class": "4", "rows_seed": "2"}
    share, folder = fit_head(selection, "knn", {"k": 1}, FitPlan(rows_share=0.1))
    assert folder.name == "knn@rows_share=0.1" and share.record.rows == round(0.1 * len(labels))
    other, _ = fit_head(selection, "knn", {"k": 1}, FitPlan(rows_share=0.1, rows_seed=1))
    assert not np.array_equal(share.score(selection.open("test")), other.score(selection.open("test")))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"limit": 5, "rows_share": 0.5}, "--limit and --rows-share select different rows"),
        ({"rows_share": 0.5, "rows_per_class": 5}, "give one of them"),
        ({"rows_seed": 1}, "--rows-seed draws no rows by itself"),
    ],
)
def test_contradictory_selections_of_rows(plan, message):
    with pytest.raises(UsageError, match=message):
        FitPlan(**plan)
