import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.heads import create_head
from featood.heads.base.fit import Fit
from featood.heads.ensembles.dropout_mlp import DropoutNet
from featood.heads.ensembles.ensemble_mlp import StackedLinear
from featood.nets.mlp import MLP

CENTERS = np.array([[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0]])
SMALL = {"epochs": 20, "batch_size": 50, "width": 12, "depth": 2, "lr": 1e-2}


def blobs(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    return FeatureSet(
        {"avg": (CENTERS[labels] + rng.normal(size=(rows, 4))).astype(np.float32)}, labels=labels
    )


def scaled(head, data):
    return (data.features["avg"].astype(float) - head.state["space.center"].numpy()) / head.state[
        "space.scale"
    ].numpy()


def weights(head):
    return {name.removeprefix("model."): value.double().numpy() for name, value in head.state.items()}


def measures(draws):
    """Scores of draws ``[S, B, C]`` of probabilities, row by row."""
    mean = draws.mean(0)
    total = entropy(mean, axis=1)
    return {
        "predictive-entropy": total,
        "mutual-information": total - np.mean([entropy(p, axis=1) for p in draws], 0),
        "variance": draws.var(0, ddof=1).mean(1),
        "mean-msp": -mean.max(1),
    }


def check_scores(name, options, head, probabilities, data):
    np.testing.assert_allclose(softmax(head.classify(data), 1), probabilities.mean(0), rtol=1e-6)
    for which, expected in measures(probabilities).items():
        other = create_head(name, **options, which=which)
        other.adopt(Fit(head.state, head.record))
        np.testing.assert_allclose(other.score(data), expected, rtol=1e-5, atol=1e-9, err_msg=which)


def test_ensemble_scores_are_those_of_its_members():
    options = {**SMALL, "members": 3}
    head, data = create_head("ensemble-mlp", **options).fit(blobs()), blobs(40, seed=1)
    w, rows, draws = weights(head), scaled(head, data), []
    for member in range(3):
        hidden = rows
        for layer in (0, 2, 4):
            hidden = hidden @ w[f"{layer}.weight"][member] + w[f"{layer}.bias"][member]
            hidden = np.maximum(hidden, 0) if layer < 4 else hidden
        draws.append(softmax(hidden, 1))
    assert not np.allclose(draws[0], draws[1])
    assert all((draw.argmax(1) == data.labels).mean() > 0.9 for draw in draws)
    check_scores("ensemble-mlp", options, head, np.stack(draws), data)


def test_members_learn_as_though_alone():
    head = create_head("ensemble-mlp", **SMALL, members=4)
    model = head.build(4, 3, torch.Generator().manual_seed(7))
    data = blobs(20)
    rows, labels = torch.from_numpy(data.features["avg"]), torch.from_numpy(data.labels)
    head.losses(model, rows, labels, torch.Generator())["loss"].backward()
    generator = torch.Generator().manual_seed(7)
    for member in range(4):
        alone = MLP(4, [12, 12], 3, "relu", generator)
        F.cross_entropy(alone(rows), labels).backward()
        for layer, stacked in zip(alone, model, strict=True):
            if isinstance(stacked, StackedLinear):
                torch.testing.assert_close(stacked.weight[member].T, layer.weight)
                torch.testing.assert_close(stacked.weight.grad[member].T, layer.weight.grad)
                torch.testing.assert_close(stacked.bias.grad[member, 0], layer.bias.grad)


def test_dropout_scores_are_those_of_its_masks():
    options = {**SMALL, "passes": 6, "dropout": 0.4}
    head, data = create_head("dropout-mlp", **options).fit(blobs()), blobs(40, seed=1)
    w, rows, draws = weights(head), scaled(head, data), []
    for masks in w["masks"][:, :, 0].transpose(1, 0, 2):
        hidden = rows
        for layer in (0, 2, 4):
            hidden = hidden @ w[f"layers.{layer}.weight"].T + w[f"layers.{layer}.bias"]
            hidden = np.maximum(hidden, 0) * masks[layer // 2] if layer < 4 else hidden
        draws.append(softmax(hidden, 1))
    assert not np.allclose(draws[0], draws[1])
    check_scores("dropout-mlp", options, head, np.stack(draws), data)


def test_masks_drop_their_share_and_keep_the_mean():
    net = DropoutNet(MLP(4, [500], 3, "relu"), 0.3, 200, torch.Generator().manual_seed(0))
    values = net.masks.unique().tolist()
    assert values == pytest.approx([0, 1 / 0.7])
    assert net.masks.eq(0).double().mean() == pytest.approx(0.3, abs=0.01)
    assert net.masks.mean() == pytest.approx(1, abs=0.01)
    again = DropoutNet(MLP(4, [500], 3, "relu"), 0.3, 200, torch.Generator().manual_seed(0))
    assert torch.equal(net.masks, again.masks)


def test_dropout_is_of_the_training_alone():
    head = create_head("dropout-mlp", **SMALL)
    model = head.build(4, 3, torch.Generator().manual_seed(0))
    data = blobs(20)
    rows, labels = torch.from_numpy(data.features["avg"]), torch.from_numpy(data.labels)
    generator = torch.Generator().manual_seed(0)
    noisy = [float(head.losses(model, rows, labels, generator)["loss"].detach()) for _ in range(3)]
    assert len(set(noisy)) == 3
    model.eval()
    plain = F.cross_entropy(model.layers(rows), labels)
    torch.testing.assert_close(head.losses(model, rows, labels, generator)["loss"], plain)


@pytest.mark.parametrize("which", ["predictive-entropy", "mutual-information", "variance", "mean-msp"])
@pytest.mark.parametrize("name", ["dropout-mlp", "ensemble-mlp"])
def test_finds_rows_between_the_classes(name, which):
    known, rng = blobs(200, seed=1), np.random.default_rng(2)
    between = FeatureSet({"avg": (CENTERS.mean(0) + 0.5 * rng.normal(size=(200, 4))).astype(np.float32)})
    head = create_head(name, **{**SMALL, "width": 64}, which=which).fit(blobs())
    scores = np.concatenate([head.score(known), head.score(between)])
    assert roc_auc_score(np.repeat([0, 1], 200), scores) > 0.85
