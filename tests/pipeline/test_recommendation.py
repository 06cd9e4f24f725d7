import dataclasses
import json
import statistics

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from featood.cache import FeatureCache, FeatureSet
from featood.cache.transfer import import_arrays
from featood.errors import DataError, UsageError
from featood.heads import create_head, load_head
from featood.pipeline.derived_sets import hold_out
from featood.pipeline.recommendation import (
    choose_criterion,
    choose_members,
    correlation,
    near_best,
    recommend,
    recommend_heads,
    try_heads,
)
from featood.pipeline.selection import select
from featood.pipeline.trials import make_trials, without_classes
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = (data.rows(np.asarray(data.labels) >= 0) for data in synthetic_sets())
NAMES = ["mahalanobis", "norm", "energy", "knn k=5"]


@pytest.fixture
def few_heads(monkeypatch):
    """The default heads without the slow ones."""
    names = ("mahalanobis", "knn", "norm", "energy", "msp", "mlp", "compose")
    monkeypatch.setattr("featood.pipeline.recommendation.list_heads", lambda: names)


def trials(seed=0):
    return make_trials(*hold_out(TRAIN, 0.3, seed=0), seed)


def fill(root, *splits):
    cache = FeatureCache(root)
    for split, data in zip(splits, (TRAIN, TEST, TEST.rows(slice(0, 60))), strict=False):
        import_arrays(cache, f"net/news/{split}", data.features, data.logits, data.labels, data.classifier)
    return select(cache, "net", "news")


# ---- trials


def test_each_class_is_unseen_once_and_seen_otherwise():
    found = [trial for trial in trials() if trial.kind == "unseen"]
    kept, held = (part.to_torch() for part in hold_out(TRAIN, 0.3, seed=0))
    classes = set(kept.labels.tolist())
    total = 0
    for trial in found:
        rows = {tuple(row) for row in trial.outliers.features["avg"].tolist()}
        left = {
            int(c)
            for row, c in zip(held.features["avg"].tolist(), held.labels, strict=True)
            if tuple(row) in rows
        }
        total += len(trial.outliers)
        assert left and len(trial.train) == sum(int(c) not in left for c in kept.labels)
        assert len(trial.known) == sum(int(c) not in left for c in held.labels)
        remaining = sorted(classes - left)
        weight, bias = (torch.as_tensor(np.asarray(part)) for part in kept.classifier)
        for part in (trial.train, trial.known, trial.outliers):
            assert part.logits.shape[1] == len(remaining)
            for column, c in enumerate(remaining):
                assert (
                    torch.equal(part.classifier[0][column], weight[c])
                    and part.classifier[1][column] == bias[c]
                )
        assert set(trial.train.labels.tolist()) == set(range(len(remaining)))
    assert total == len(held)


def test_classes_are_numbered_anew_and_unknown_labels_stay_unknown():
    data = FeatureSet(
        {"avg": torch.eye(5)}, torch.arange(20.0).reshape(5, 4), torch.tensor([0, 1, 2, 3, -1]),
    )  # fmt: skip
    kept, unseen = without_classes(data, torch.tensor([1]))
    assert kept.labels.tolist() == [0, 1, 2, -1] and unseen.labels.tolist() == [-1]
    assert torch.equal(kept.logits, data.logits[[0, 2, 3, 4]][:, [0, 2, 3]])
    assert torch.equal(unseen.features["avg"], data.features["avg"][[1]])


def test_held_out_rows_need_not_have_all_classes_and_unknown_ones_are_left_out():
    kept, held = (part.to_torch().select("avg", "labels") for part in hold_out(TRAIN, 0.3, seed=0))
    top = held.labels == held.labels.max()
    held.labels[torch.where(~top)[0][:7]] = -1
    some = dataclasses.replace(held.rows(~top), classifier=None)
    found = make_trials(dataclasses.replace(kept, classifier=None), some)
    assert len(found[0].known) == len(some) - 7
    unseen = [trial for trial in found if trial.kind == "unseen"]
    assert sum(len(trial.outliers) for trial in unseen) == len(some) - 7
    for trial in unseen:  # a class has the same number in both parts
        for c in trial.known.labels.unique():
            ours = kept.labels[
                (kept.features["avg"][:, None] == trial.train.features["avg"][trial.train.labels == c][0])
                .all(-1)
                .any(1)
            ]
            theirs = some.labels[
                (some.features["avg"][:, None] == trial.known.features["avg"][trial.known.labels == c][0])
                .all(-1)
                .any(1)
            ]
            assert ours.item() == theirs.item()
    with pytest.raises(DataError, match="no held-out row"):
        make_trials(kept, dataclasses.replace(some, labels=torch.full((len(some),), -1)))


def test_rows_of_a_single_class_are_crossed_with_any_other():
    one = dataclasses.replace(TRAIN.select("avg"), labels=np.zeros(len(TRAIN), int), classifier=None)
    assert [trial.kind for trial in make_trials(*hold_out(one, 0.3, seed=0))] == ["crossed", "scaled"]


def test_logits_of_crossed_rows_are_those_of_the_classifier():
    crossed = next(trial for trial in trials() if trial.kind == "crossed").outliers
    weight, bias = (np.asarray(part, np.float64) for part in TRAIN.classifier)
    expected = np.asarray(crossed.features["avg"], np.float64) @ weight.T + bias
    np.testing.assert_allclose(crossed.logits, expected, atol=1e-4)
    assert crossed.labels is None


def test_trials_depend_on_the_seed_alone():
    first, again, other = (trials(seed) for seed in (0, 0, 1))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.outliers.features["avg"], two.outliers.features["avg"])
    assert not all(
        len(one.outliers) == len(two.outliers)
        and torch.equal(one.outliers.features["avg"], two.outliers.features["avg"])
        for one, two in zip(first, other, strict=True)
    )


def test_without_labels_classes_are_those_predicted_and_without_logits_rows_are_crossed():
    kept, held = hold_out(TRAIN, 0.3, seed=0)
    columns = kept.select("avg", "logits"), held.select("avg", "logits")
    assert {trial.kind for trial in make_trials(*columns)} == {"crossed", "scaled", "unseen"}
    assert [trial.kind for trial in make_trials(kept.select("avg"), held.select("avg"))] == [
        "crossed",
        "scaled",
    ]
    with pytest.raises(DataError, match="no features"):
        make_trials(kept.select("logits"), held.select("logits"))


# ---- the criterion


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("mahalanobis", "norm", "energy", "knn"), ("unseen", "scaled")),
        (("mahalanobis", "lof", "relative-mahalanobis"), ("unseen",)),
    ],
)
def test_heads_are_ranked_by_their_mean_auroc_on_unseen_classes(names, kinds):
    pairs = trials()
    rows, criterion, skipped = try_heads({name: create_head(name) for name in names}, pairs)
    means = {}
    for row in rows:
        naive = {}
        for trial in pairs:
            head = create_head(row.label).fit(trial.train)
            scores = [head.score(part).numpy() for part in (trial.known, trial.outliers)]
            truth = np.repeat([0, 1], [len(part) for part in scores])
            naive.setdefault(trial.kind, []).append(roc_auc_score(truth, np.concatenate(scores)))
        for kind, values in naive.items():
            np.testing.assert_allclose(row.auroc[kind], values, atol=1e-12)
        means[row.label] = {kind: np.mean(values) for kind, values in naive.items()}
        means[row.label]["trials"] = naive["unseen"]
    assert criterion == kinds and not skipped
    places = np.mean([rankdata([-one[kind] for one in means.values()]) for kind in criterion], 0)
    assert [row.place for row in rows] == places.tolist()
    best = max(means.values(), key=lambda one: one["unseen"])["trials"]
    near = dict.fromkeys(means, False)
    for label, one in means.items():
        worse = [first - second for first, second in zip(best, one["trials"], strict=True)]
        error = statistics.stdev(worse) / len(worse) ** 0.5
        near[label] = len(kinds) == 1 and statistics.mean(worse) <= error
    expected = sorted(
        means,
        key=lambda label: (-means[label]["crossed"] if near[label] else 1, places[list(means).index(label)]),
    )
    assert [row.label for row in rows] == expected
    assert all(not row.head.fitted for row in rows if row.head.learns)


def test_heads_within_a_standard_error_of_the_best_are_near_it():
    best, near, far, alike = [0.9, 0.8, 0.7], [0.8, 0.9, 0.69], [0.89, 0.79, 0.69], [0.9, 0.8, 0.7]
    assert near_best([far, best, near, alike]).tolist() == [False, True, True, True]
    assert near_best([[0.8], [0.9], [0.9]]).tolist() == [False, True, True]


def test_without_classes_crossed_rows_decide():
    found = recommend(TRAIN.select("avg"), TEST.select("avg"), ["norm", "knn"])
    assert found.criterion == ("crossed",)
    assert found.rows[0].auroc["crossed"] >= found.rows[1].auroc["crossed"]


def test_scaled_rows_count_too_where_they_contradict_unseen_classes():
    unseen = [0.9, 0.8, 0.7, 0.6]
    for scaled in ([0.5, 0.6, 0.9, 0.8], [0.9, 0.5, 0.6, 0.7], [0.5, 0.5, 0.5, 0.5]):
        found = choose_criterion({"crossed": unseen, "scaled": scaled, "unseen": unseen})
        negative = np.ptp(scaled) > 0 and spearmanr(unseen, scaled).statistic < 0
        assert found == (("unseen", "scaled") if negative else ("unseen",))


def test_reasons_count_the_trials_in_which_the_best_is_better():
    first, second = recommend(TRAIN, TEST, ["norm", "mahalanobis"]).rows
    values = [row.auroc["unseen"] for row in (first, second)]
    better = sum(a > b for a, b in zip(*values, strict=True))
    assert second.reason.startswith(f"{first.label} is better in {better} of {len(values[0])} trials")
    assert f"{100 * min(values[0]):.1f} to {100 * max(values[0]):.1f} in" in first.reason


def test_correlation_is_that_of_the_ranks_within_each_trial():
    pairs = trials()
    (first, second), *_ = try_heads({name: create_head(name) for name in ("mahalanobis", "norm")}, pairs)
    expected = []
    for trial in pairs:
        scores = [
            np.concatenate([head.score(part).numpy() for part in (trial.known, trial.outliers)])
            for head in (create_head(name).fit(trial.train) for name in ("mahalanobis", "norm"))
        ]
        expected.append(spearmanr(*scores).statistic)
    assert correlation(first, second) == pytest.approx(np.mean(expected), abs=1e-9)
    assert correlation(first, first) == pytest.approx(1)


def test_heads_that_rank_rows_alike_are_named_and_not_composed():
    found = recommend(TRAIN, TEST, ["energy", "energy temperature=1.0001", "norm", "mahalanobis"])
    alike = {row.label: row.like for row in found.rows}
    assert sum(like.startswith("energy") for like in alike.values()) == 1
    members = choose_members(found.rows)
    assert sum(row.head.name == "energy" for row in members) == 1
    assert members[0] is found.rows[0] and len(members) == 3


def test_default_heads_need_only_what_is_there_and_the_others_have_a_reason(few_heads):
    found = recommend(TRAIN.select("avg", "labels"), limit=100)
    assert {row.label for row in found.rows} == {"mahalanobis", "knn", "norm"}
    assert set(found.skipped) == {"energy", "msp", "mlp", "compose"}
    assert "needs logits" in found.skipped["msp"] and "trains" in found.skipped["mlp"]
    assert found.on.startswith("100 rows")
    json.dumps(found.as_json())


def test_heads_beyond_the_budget_are_left_out_with_a_reason():
    found = recommend(TRAIN, names=["norm", "mahalanobis"], budget=3600)
    assert len(found.rows) == 2
    with pytest.raises(DataError, match=r"none of the 1 heads could be tried; norm: not enough time"):
        recommend(TRAIN, names=["norm"], budget=1e-9)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("nonsense", UsageError, "nonsense"),
        ("knn q=1", UsageError, "no option 'q'"),
        ("odin", Exception, "odin"),
    ],
)
def test_wrong_heads_are_named(name, error, text):
    with pytest.raises(error, match=text):
        recommend(TRAIN, names=[name])


# ---- on a cache


def test_the_validation_split_is_held_out_and_the_test_split_never_read(tmp_path):
    selection = fill(tmp_path, "train", "test", "val")
    found = recommend_heads(selection, ["norm"])
    assert found.on == f"{len(TRAIN)} rows of net/news/train and 60 others of net/news/val"
    with pytest.raises(UsageError, match="the split that featood score uses"):
        recommend_heads(selection, ["norm"], split="test")


def test_the_command_prints_a_table_or_json(tmp_path, featood, monkeypatch):
    fill(tmp_path, "train", "test")
    monkeypatch.setenv("COLUMNS", "80")
    options = ["recommend", "--cache", str(tmp_path), *(part for name in NAMES for part in ("--heads", name))]
    code, out, err = featood(*options)
    assert code == 0 and all(len(line) <= 80 for line in out.splitlines())
    assert "prediction" in err
    code, printed, _ = featood(*options, "--json")
    heads = json.loads(printed)["heads"]
    assert {row["label"] for row in heads} == set(NAMES)
    assert out.split("─\n")[1].startswith(heads[0]["label"])
    code, out, err = featood(*options, "--heads", "knn k=none")
    assert code == 2 and not out and len(err.strip().splitlines()) == 1 and "k must be" in err


def test_members_of_a_composition_are_chosen_and_recorded(tmp_path, featood, few_heads):
    fill(tmp_path, "train", "test")
    code, _, err = featood(
        "fit", "compose", "--members", "auto", "--cache", str(tmp_path), "--out", str(tmp_path / "own")
    )
    assert code == 0
    head = load_head(tmp_path / "own")
    assert len(head.members) == 3
    (note,) = [note for note in head.record.notes if "chosen by pseudo-outliers" in note]
    assert all(member.split()[0] in note for member in head.members) and note in err
