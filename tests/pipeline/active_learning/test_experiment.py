"""The loop of active learning: who is labelled when, what is written, and what an interruption changes."""

import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import featood as package
from featood.data import open_dataset
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.extractors.trainer import Architecture, TrainOptions
from featood.pipeline.active_learning import rounds
from featood.pipeline.active_learning.plan import ActivePlan
from featood.pipeline.active_learning.pool import open_pool
from featood.pipeline.active_learning.rounds import read_round
from featood.reporter import Reporter

HOW = {
    "dataset": "mnist", "arch": "lenet", "acquire": 10, "until": 40, "runs": 2, "epochs": 2,
    "epoch_images": 128, "lr": 0.01,
}  # fmt: skip


def learn(out, acquisition="softmax", **changes):
    return package.active_learning(acquisition, out=out, **{**HOW, **changes})


def records(out, label="softmax"):
    return {path.name: read_round(path) for path in sorted((out / "rounds" / label).glob("run-*.json"))}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    """The digits of scikit-learn, enlarged, as if they were MNIST."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mnist").mkdir()
    for split, rows in (("train", 300), ("test", 100)):
        images = open_dataset("digits", split).subset(range(rows))
        enlarged = np.pad(images.array.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
        np.savez(folder / "mnist" / f"{split}.npz", images=enlarged, labels=images.labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATOOD_DATA", str(folder))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "al"
    learn(folder)
    return folder


def test_every_round_adds_its_images_to_those_before(whole):
    found = records(whole)
    assert list(found) == [f"run-{run}-round-{number}.json" for run in range(2) for number in range(3)]
    pool = open_pool(plan_of(), 0.1, 0)
    for run in range(2):
        one = [found[f"run-{run}-round-{number}.json"] for number in range(3)]
        assert [len(round_.labelled) for round_ in one] == [20, 30, 40]
        assert one[0].labelled == pool.initial.tolist()
        for before, after in itertools.pairwise(one):
            assert after.labelled == before.labelled + before.acquired
        assert len(set(one[-1].labelled)) == 40 and max(one[-1].labelled) < len(pool.images)
        assert all(list(round_.scores) == sorted(round_.scores, reverse=True) for round_ in one)
    seeds = [seed for round_ in found.values() for seed in round_.seeds]
    assert len(set(seeds)) == len(seeds) == 6


def plan_of(**changes):
    given = {
        "dataset": "mnist",
        "architecture": Architecture("lenet"),
        "out": Path("unused"),
    }
    return ActivePlan(**{**given, "until": 40, **changes})


def test_accuracy_and_ranking_are_those_of_the_trained_networks(tmp_path, monkeypatch):
    """Two fixed networks in place of trained ones; the oracle is a loop over images."""
    made, trainings = [], []

    def train_network(make, model, data, options, **_):
        from featood.extractors.models import SplitNet
        from featood.extractors.trainer.trainer import Trained

        net = SplitNet(make(10, 1, torch.Generator().manual_seed(options.seed))).eval()
        made.append(make(10, 1, torch.Generator().manual_seed(options.seed)).eval())
        trainings.append((data, options))
        return Trained(net, {}, {}, {"validation_accuracy": 0.5, "diverged": False})

    monkeypatch.setattr(rounds, "train_network", train_network)
    learn(tmp_path / "al", "ensemble", options={"members": 2}, until=20, runs=1)
    (found,) = records(tmp_path / "al", "ensemble@members=2").values()
    pool = open_pool(plan_of(), 0.1, 0)

    def probabilities(images, row):
        with torch.no_grad():
            pixels = pool.transform([images.read(row)])
            return torch.stack([net(pixels)[0].double().softmax(0) for net in made]).mean(0)

    right = [
        int(probabilities(pool.test, row).argmax()) == pool.test.labels[row] for row in range(len(pool.test))
    ]
    assert found.accuracy == pytest.approx(np.mean(right), abs=2 / len(right))
    rest = [row for row in range(len(pool.images)) if row not in found.labelled]
    scores = {row: -float((p * p.log()).sum()) for row in rest for p in [probabilities(pool.images, row)]}
    np.testing.assert_allclose(found.scores, sorted(scores.values(), reverse=True)[:10], rtol=1e-5)
    np.testing.assert_allclose(found.scores, [scores[row] for row in found.acquired], rtol=1e-5)
    for data, options in trainings:
        assert len(data.images) == 128 and options.validation == 0
        ids, counts = np.unique(data.images.ids, return_counts=True)
        assert set(ids) == {pool.images.ids[row] for row in found.labelled} and set(counts) == {6, 7}
        assert not set(data.held_out.ids) & set(pool.images.ids)


def test_runs_and_acquisitions_begin_with_the_same_labels_and_weights(whole, tmp_path):
    folder = tmp_path / "al"
    shutil.copytree(whole, folder)
    learn(folder, "random")
    learn(folder, "gmm")
    first = [records(folder, label)["run-0-round-0.json"] for label in ("softmax", "random", "gmm")]
    assert len({tuple(one.labelled) for one in first}) == len({one.accuracy for one in first}) == 1
    assert len({tuple(one.acquired) for one in first}) == 3
    for label in ("softmax", "random"):
        both = [records(folder, label)[f"run-{run}-round-0.json"] for run in range(2)]
        assert both[0].labelled == both[1].labelled and both[0].acquired != both[1].acquired


def test_the_files_have_the_published_shape(whole):
    found = records(whole)
    accuracies = json.loads((whole / "test_accs_lenet_softmax_mnist.json").read_text())
    assert accuracies == {
        str(run): [100 * found[f"run-{run}-round-{number}.json"].accuracy for number in range(3)]
        for run in range(2)
    }
    assert not list(whole.glob("ambiguous*"))
    summary = json.loads((whole / "summary.json").read_text())
    curve = summary["acquisitions"]["softmax"]
    assert curve["labels"] == [20, 30, 40] and curve["runs"] == [2, 2, 2]
    values = np.array(list(accuracies.values())) / 100
    np.testing.assert_allclose(curve["accuracy"], values.mean(0))
    np.testing.assert_allclose(curve["standard_error"], values.std(0, ddof=1) / np.sqrt(2))


def interrupt():
    raise KeyboardInterrupt


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Ending(Reporter):
    """Ends the process in its own way after some updates of networks."""

    def __init__(self, after, end=interrupt):
        self.left, self.end = after, end

    def progress(self, what, done, total, **figures):
        self.left -= 1
        if not self.left:
            self.end()


@pytest.mark.parametrize("after", [1, 5, 11])
def test_an_interrupted_experiment_ends_as_an_uninterrupted_one(tmp_path, whole, after):
    folder = tmp_path / "al"
    with pytest.raises(KeyboardInterrupt):
        learn(folder, reporter=Ending(after))
    assert len(records(folder)) == (after - 1) // 4  # four updates in a round
    learn(folder)
    assert contents(folder) == contents(whole)


def test_a_finished_round_is_not_trained_again(tmp_path, whole, monkeypatch):
    folder = tmp_path / "al"
    shutil.copytree(whole, folder)
    calls = []
    train = rounds.train_network
    monkeypatch.setattr(
        rounds, "train_network", lambda *args, **more: calls.append(0) or train(*args, **more)
    )
    learn(folder)
    assert not calls and contents(folder) == contents(whole)
    learn(folder, until=50)
    assert len(calls) == 2  # one more round in each run
    before, after = records(whole), records(folder)
    assert len(after) == 8 and {name: after[name] for name in before} == before


def test_an_interruption_right_after_the_last_record_leaves_nothing(tmp_path, whole, monkeypatch):
    from featood.pipeline.active_learning import experiment

    folder, label = tmp_path / "al", "softmax"
    shutil.copytree(whole, folder)
    last = folder / "rounds" / label / "run-1-round-2.json"
    last.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "clear", lambda *_: interrupt() if last.exists() else None)
        with pytest.raises(KeyboardInterrupt):
            learn(folder)
    assert last.exists() and list(last.parent.glob("*.training"))
    learn(folder)
    assert contents(folder) == contents(whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_killed_ensemble_ends_as_an_uninterrupted_one(tmp_path):
    how = {"options": {"members": 2}, "until": 30, "runs": 1, "epochs": 3}
    child = os.fork()
    if not child:
        learn(tmp_path / "killed", "ensemble", reporter=Ending(22, kill), **how)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    # twelve updates in a round: the second network of the second round was being trained
    assert list(records(tmp_path / "killed", "ensemble@members=2")) == ["run-0-round-0.json"]
    assert len(list((tmp_path / "killed").rglob("*.training"))) == 2
    for name in ("killed", "whole"):
        learn(tmp_path / name, "ensemble", **how)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "named"), [({"lr": 0.02}, "lr"), ({"acquire": 5}, "acquire"), ({"seed": 1}, "seed")]
)
def test_another_experiment_needs_another_folder(whole, changes, named):
    before = contents(whole)
    with pytest.raises(Mismatch, match=f"other settings \\(.*\\b{named}\\b"):
        learn(whole, "random", **changes)
    assert contents(whole) == before


def test_damaged_records_are_named(tmp_path, whole):
    folder = tmp_path / "al"
    shutil.copytree(whole, folder)
    path = folder / "rounds" / "softmax" / "run-0-round-1.json"
    text = path.read_text()
    path.write_text(text.replace('"accuracy": 0.', '"accuracy": 1.'))
    with pytest.raises(
        CacheCorrupt, match=r"run-0-round-1.json does not match .*; delete .*softmax to repeat"
    ):
        learn(folder)
    path.write_bytes((path.parent / "run-1-round-1.json").read_bytes())
    with pytest.raises(Mismatch, match=r"run-0-round-1.json does not follow from the rounds before it"):
        learn(folder)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"until": 10}, UsageError, "cannot end at 10 labels if it begins with 20"),
        ({"until": 261}, UsageError, "the pool has 270 images, too few"),
        ({"initial": 25}, UsageError, "25 initial labels cannot be divided among 10 classes"),
        ({"initial": 20, "subsample": 20}, UsageError, "the pool has 18 images"),
        ({"subsample": 5000}, UsageError, "5000 cannot be drawn"),
        ({"dataset": "photo-patches", "test": "digits/test"}, DataError, "no split 'train'"),
        ({"test": "photo-patches/test"}, DataError, "photo-patches/test has images without a label"),
        ({"test": "fashion"}, UsageError, "no dataset is named 'fashion'"),
        ({"test": "digits:5-9/test"}, DataError, "has other classes than the pool"),
        ({"judge": "nowhere"}, UsageError, "nowhere contains no network"),
        ({"threshold": -1.0}, UsageError, "at least 0"),
        ({"runs": 0}, UsageError, "runs must be at least 1"),
        ({"turns": 3}, UsageError, "no option 'turns'"),
        ({"optimizer": "lion"}, UsageError, "optimizer must be one of"),
        ({"arch": "lenett"}, UsageError, "no architecture 'lenett'"),
        ({"ambiguous": True, "dataset": "digits", "subsample": 50}, DataError, "images differ in size"),
    ],
)
def test_misuse_is_named(tmp_path, changes, error, text):
    with pytest.raises(error, match=text):
        learn(tmp_path / "al", **changes)


def test_a_diverged_training_is_noted(tmp_path):
    with pytest.warns(UserWarning, match="training diverged"):
        summary = learn(tmp_path / "al", lr=1e5, until=20, runs=1)
    assert summary["acquisitions"]["softmax"]["notes"] == [{"diverged": [1]}]
    assert summary["acquisitions"]["softmax"]["standard_error"] == [None]


def test_gmm_needs_two_labels_of_each_class(tmp_path):
    with pytest.raises(UsageError, match="gmm needs at least 2 initial labels of each class"):
        learn(tmp_path / "al", "gmm", initial=10)


class Lines(Reporter):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def test_interpolated_digits_are_named_wherever_they_stand_for_the_published(tmp_path):
    lines = Lines()
    out = tmp_path / "al"
    how = {"ambiguous": True, "subsample": 100, "reporter": lines}
    summary = learn(out, **how)
    assert summary["pool"] == "mnist-100+interpolated-mnist" and summary["ambiguous"] == "interpolated-mnist"
    assert any("interpolated-mnist takes its place" in line for line in lines.lines)
    name = "lenet_softmax_mnist-100+interpolated-mnist.json"
    shares, entropies = (
        json.loads((out / f"{kind}_{name}").read_text())
        for kind in ("ambiguous_acquired", "ambiguous_entropies")
    )
    plan = plan_of(ambiguous=True, subsample=100)
    pool = open_pool(plan, 0.1, 0)
    found = records(out)
    for run in ("0", "1"):
        assert len(shares[run]) == 2 and list(entropies[run]) == ["0", "1"]
        for number in range(2):
            labelled = found[f"run-{run}-round-{number + 1}.json"].labelled
            values = entropies[run][str(number)]
            np.testing.assert_allclose(values, pool.entropies[labelled])
            assert shares[run][number] == np.mean([value > 0 for value in values])
    # a row of a digit has one label; a row of an interpolated digit has those of all its copies
    assert {id_.partition("/")[0] for id_ in pool.images.ids} == {"mnist-100", "interpolated-mnist"}
    plain = np.array([id_.startswith("mnist-100/") for id_ in pool.images.ids])
    assert (pool.entropies[plain] == 0).all() and (pool.entropies[~plain] > 0).mean() > 0.95


def test_a_judge_tells_how_ambiguous_images_are(tmp_path, whole):
    package.train("cross-entropy", dataset="mnist", arch="lenet", out=tmp_path / "judge", epochs=1)
    folder = tmp_path / "al"
    shutil.copytree(whole, folder)
    summary = learn(folder, judge=str(tmp_path / "judge"))
    assert summary["threshold"] == 1.0
    values = json.loads((folder / "ambiguous_entropies_lenet_softmax_mnist.json").read_text())["0"]["1"]
    from featood.extractors.trainer import load_extractor

    net, facts, _ = load_extractor(tmp_path / "judge")
    pool = open_pool(plan_of(), 0.1, 0)
    labelled = records(folder)["run-0-round-2.json"].labelled
    with torch.inference_mode():
        p = net(facts.transform([pool.images.read(row) for row in labelled])).double().softmax(1)
    np.testing.assert_allclose(values, -(p * p.log()).sum(1), rtol=1e-4)
    shares = json.loads((folder / "ambiguous_acquired_lenet_softmax_mnist.json").read_text())
    assert shares["0"][1] == np.mean(np.array(values) > 1)


def test_held_out_images_choose_the_weights(tmp_path):
    """The kept weights are those of the best epoch, not those after the last update."""
    from featood.extractors.models import create_model
    from featood.extractors.trainer import TrainImages, train_network
    from featood.pipeline.training import input_transform

    images, held = open_dataset("mnist", "train").subset(range(40)), open_dataset("mnist", "test")
    transform = input_transform(Architecture("lenet"), images)
    how = TrainOptions(epochs=8, batch_size=20, lr=0.1, validation=0.5, schedule="constant", seed=1)
    trained = train_network(
        Architecture("lenet").make,
        create_model("cross-entropy"),
        TrainImages(images, transform, held_out=held),
        how,
    )
    assert len(trained.history["loss"]) == 16  # all 40 images are trained on
    errors = trained.history["validation"]
    assert errors[-1] > min(errors)
    with torch.inference_mode():
        guesses = trained.net(transform([held.read(row) for row in range(len(held))])).argmax(1).numpy()
    assert (guesses != held.labels).mean() == pytest.approx(min(errors))


def test_the_command(featood, tmp_path):
    words = [
        *("--dataset", "mnist", "--arch", "lenet", "--acquire", "10", "--until", "30"),
        *("--runs", "2", "--epochs", "1", "--epoch-images", "64", "--out", tmp_path / "al"),
    ]
    code, out, err = featood("active-learning", "gmm", *words)
    assert code == 0 and "gmm, run 2 of 2, round 2: 30 labels, test accuracy" in err and "ridge" in err
    assert "held" not in err and "30 more with labels choose the best epoch and are not counted" in err
    assert out.split()[0] == "labels" and "±" in out
    code, out, err = featood("active-learning", "random", *words, "--json")
    summary = json.loads(out)
    assert code == 0 and list(summary["acquisitions"]) == ["gmm", "random"]
    assert all(len(values["ridge"]) == 2 for values in summary["acquisitions"]["gmm"]["notes"])
    assert (tmp_path / "al" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    for more, text in (
        (["gmmm"], "there is no acquisition 'gmmm'; did you mean gmm?"),
        (["gmm", *words, "--until", "4"], "cannot end at 4 labels"),
        (["gmm", *words, "--lr", "0.5"], "other settings (lr)"),
        (["gmm", *words, "--arch-option", "sn"], "NAME=VALUE"),
    ):
        code, _, err = featood("active-learning", *more)
        assert code in (2, 5) and text in err and "Traceback" not in err
