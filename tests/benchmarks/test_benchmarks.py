import argparse
import json
import subprocess
import sys

import numpy as np
import pytest

from featood import FeatureSet, create_head
from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.metrics import auroc
from featood.speed import pytorch_ood
from featood.testing.fixture import synthetic_sets


def test_every_detector_is_compared_or_listed_as_absent(script, detectors):
    table = pytorch_ood
    known = {peer.name for peer in table.PEERS} | set(table.ABSENT)
    assert {name for name in detectors.__all__ if isinstance(getattr(detectors, name), type)} == known


def test_agreement_on_a_cache(script, detectors, tmp_path, monkeypatch, capsys):
    peers = script("peers")
    train, test = synthetic_sets(rows=600)
    cache = FeatureCache(tmp_path / "cache")
    for key, data in {
        "news/train": train.rows(np.asarray(train.labels) >= 0),
        "news/test": test.rows(np.asarray(test.labels) >= 0),
        "spam/test": test.rows(np.asarray(test.labels) < 0),
    }.items():
        features = {name: data.features[name] for name in ("avg", "std")}
        run = {"role": "ood"} if key.startswith("spam") else {}
        import_arrays(cache, f"net/{key}", features, data.logits, data.labels, data.classifier, run=run)
    words = ["--cache", tmp_path / "cache", "--ood", "spam", "--json", tmp_path / "a.json"]
    monkeypatch.setattr(sys, "argv", ["peers.py", *map(str, words)])
    code = peers.main()
    rows = json.loads((tmp_path / "a.json").read_text())["agreement"]
    assert code == 0, [row for row in rows if not row["same"]]
    assert len(rows) == len(pytorch_ood.PEERS) and "RankFeat is left out" in capsys.readouterr().out
    differ = {row["head"] for row in rows if not row["same"]}
    assert differ <= {"ash-b", "gen", "gmm", "nac", "openmax", "temperature-scaling", "vra"}


def test_an_unexplained_difference_is_reported(script, detectors):
    peers, table = script("peers"), pytorch_ood
    known = [data.rows(np.asarray(data.labels) >= 0) for data in synthetic_sets()]
    odd = synthetic_sets()[1].rows(np.asarray(synthetic_sets()[1].labels) < 0)
    wrong = table.Peer("knn", "KNN", "features", lambda d, layer, head: d.KNN(None, k=1))
    row = peers.compare(detectors, wrong, *known, odd)
    assert not row["same"] and row["why"] == "UNEXPLAINED" and 0 < row["rank gap"] < 1
    broken = table.Peer("knn", "KNN", "features", lambda d, layer, head: d.KNN(None, k=10**6))
    assert "Error" in peers.compare(detectors, broken, *known, odd)["why"]


def test_hard_inputs(script, detectors):
    hard = script("hard_inputs")
    rows = {(row["fault"], row["head"]): row for row in hard.hard_table(detectors)}
    assert len(rows) == len(hard.FAULTS) * len(hard.HEADS)
    for (fault, head), row in rows.items():
        ours = row["featood"]
        assert "not finite" not in ours and "negative" not in ours, row
        refused = fault in ("one NaN in train", "one Inf in test") or (fault, head) == (
            "duplicated columns",
            "vim",
        )
        assert (ours.split(":")[0] in ("DataError", "UsageError")) == refused, row


def test_densities_collapse_in_exp_space_only(script):
    low, high = script("hard_inputs").collapse_table((16, 300), 200)
    assert low["AUROC, exp space"] == pytest.approx(low["AUROC, featood"], abs=0.02)
    assert (
        high["distinct, exp space"] == 1 and high["AUROC, exp space"] == 0.5 and high["AUROC, featood"] > 0.99
    )


def test_spaces_resumes_where_it_stopped(script, tmp_path, monkeypatch, capsys):
    spaces = script("spaces")
    rng, labels = np.random.default_rng(0), np.arange(120) % 3
    values = np.abs(rng.normal(size=(240, 4)) + 2 * np.eye(4)[np.r_[labels, labels]]).astype(np.float32)
    train, test = (
        FeatureSet({"avg": part}, labels=labels).to_torch() for part in (values[:120], values[120:])
    )
    odd = {name: FeatureSet({"avg": 3 * rng.random((50, 4), np.float32)}).to_torch() for name in spaces.ODD}
    monkeypatch.setattr(spaces, "features", lambda *_: (train, test, odd))
    file = tmp_path / "lines.jsonl"
    command = ["spaces.py", str(file), "--networks", "cifar-resnet20", "--rows", "tied classes"]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", command)
        spaces.main()
        done = spaces.read(file)
        assert len(file.read_text().splitlines()) == len(done) == len(spaces.SPACES)
    head = create_head("gmm", covariance="tied", space="l2").fit(train)
    expected = np.mean([auroc(head.score(test).numpy(), head.score(rows).numpy()) for rows in odd.values()])
    assert done["cifar-resnet20", "tied classes", "l2", 0]["auroc"] == pytest.approx(100 * expected)
    assert "components must not be 32" in capsys.readouterr().out
    prior = {**spaces.PRIOR, "ridge": 1e-2}
    heat = create_head("heat-gmm", **prior).fit(train)
    tied = create_head("gmm", covariance="tied", space="l2", ridge=1e-2).fit(train)
    np.testing.assert_allclose(spaces.score(heat, test, True), tied.score(test), rtol=1e-3)


def test_emulated_bfloat16_is_that_of_the_processor(script):
    import torch

    from featood.energies.sgld import sampler_net
    from featood.nets.mlp import MLP

    emulated = script("sampler_precision").emulated
    net = MLP(6, [32, 32], 1, "silu", torch.Generator().manual_seed(0))
    found = []
    for provide in (emulated, sampler_net):
        x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with provide(net, "bfloat16") as fast:
            y = fast(x)
            (gradient,) = torch.autograd.grad(y.sum(), x)
        found.append((y.detach(), gradient))
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).abs().max()) < 0.02 * float(theirs.abs().max())
        assert torch.equal(ours, ours.bfloat16().float()), "values are rounded"


@pytest.mark.parametrize("kind", ["noise", "clusters"])
def test_neighbours_compares_searches_with_the_same_result(script, kind):
    module = script("neighbours")
    given = argparse.Namespace(rows=900, queries=40, repeat=1, breadth=1000)
    row = module.compare(kind, 32, 3, given)
    assert row["difference"] < 1e-5 and all(row[name] > 0 for name in ("ours", "faiss", "float32", "index"))
    assert all(other["recall"] > 0.99 for other in module.approximate(kind, 32, 3, given))


def test_two_commits_are_run_in_turn_and_compared(script, tmp_path, monkeypatch, capsys):
    module = script("compare_commits")
    repository, called = tmp_path / "repository", []
    subprocess.run(["git", "init", "-q", repository], check=True)
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(
        ["git", "-C", repository, *name, "commit", "-q", "--allow-empty", "-m", "first"], check=True
    )
    monkeypatch.setattr(module, "HERE", repository)

    def run(tree, words, file):
        called.append((tree == repository, words))
        value = 2.0 + len(called) if tree == repository else 1.0
        return {
            "environment": {},
            "train": [{"head": "mlp", "features": 8, "classes": 3, "fit/floor": value}],
        }

    monkeypatch.setattr(module, "run", run)
    for slower, code in (("9", 0), ("2", 1)):
        called.clear()
        monkeypatch.setattr(
            sys, "argv", ["compare_commits.py", "HEAD", "--train", "--rounds", "2", "--slower", slower]
        )
        assert module.main() == code
        assert called == [(False, ["--train"]), (True, ["--train"])] * 2
        out = capsys.readouterr().out
        assert ("fit/floor has grown from 1 to 5" in out) == bool(code)  # the median of 4 and 6
    worktrees = subprocess.run(
        ["git", "-C", repository, "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(worktrees.stdout.splitlines()) == 1


def test_heads_are_measured_at_any_scale_and_failures_are_noted(script, tmp_path, monkeypatch, capsys):
    module, file = script("gpu_scale"), tmp_path / "scale.json"
    sizes = ["--rows", "400", "--queries", "50", "--features", "8", "--classes", "3", "--device", "cpu"]
    command = [
        "gpu_scale.py",
        *sizes,
        "--json",
        str(file),
        "--heads",
        "energy",
        "mahalanobis",
        "gmm",
        "knn",
        "vmdl",
    ]
    monkeypatch.setattr(sys, "argv", command)
    module.main()
    body = json.loads(file.read_text())
    assert body["environment"]["card"] == "none" and all(row["TFLOP/s"] > 0 for row in body["products"])
    rows = {row["head"]: row for row in body["heads"]}
    assert rows["energy"]["fit s"] is None and rows["knn"]["score TFLOP/s"] > 0
    assert rows["gmm"]["fit TFLOP/s"] == pytest.approx(400 * 8 * 8 / rows["gmm"]["fit s"] / 1e12)
    assert all(
        (row["score s"] is None) == (name == "vmdl") == bool(row["note"]) for name, row in rows.items()
    )
    monkeypatch.setattr(sys, "argv", [*command, "--minutes", "0"])
    module.main()
    assert "not started: energy, mahalanobis, gmm, knn, vmdl" in capsys.readouterr().out


def test_rows_made_on_a_device_are_those_of_a_linear_classifier(script):
    module = script("gpu_scale")
    size = module.Size(300, 16, 4, 50)
    data = module.made(size, 300, 0, module.torch.device("cpu"))
    weight, bias = data.classifier
    assert data.feature().dtype == module.torch.float16
    np.testing.assert_allclose(data.logits, data.feature().float() @ weight.T + bias, rtol=1e-5, atol=1e-5)
    assert (data.logits.argmax(1) == data.labels).float().mean() > 0.7
