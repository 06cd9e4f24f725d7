"""Complete programs: a detector, published weights, training with outliers, metrics, and a search."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from featood.detectors import (
    KNN,
    EnergyRegularizedLoss,
    GridSearch,
    MahalanobisODIN,
    NegativeEnergy,
    OODMetrics,
    WideResNet,
    get_model_info,
    list_models,
    load_model,
    load_transform,
)
from featood.detectors import CrossEntropyLoss as KnownCrossEntropy
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import published


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))


def rows(count, outliers=False):
    generator = torch.Generator().manual_seed(count)
    y = torch.arange(count) % 3
    x = 3 * torch.eye(4)[y] + 0.3 * torch.randn(count, 4, generator=generator)
    if outliers:
        x[::2], y[::2] = 3 * torch.eye(4)[3] + 0.3 * torch.randn(len(x[::2]), 4, generator=generator), -1
    return DataLoader(TensorDataset(x, y), batch_size=32)


def evaluate(detector):
    metrics = OODMetrics()
    for x, y in rows(90, outliers=True):
        metrics.update(detector(x), y)
    return metrics.compute()


def test_a_network_trained_with_outliers_detects_them():
    model = classifier()
    before = evaluate(NegativeEnergy(model))["AUROC"]
    xent, regularizer = KnownCrossEntropy(), EnergyRegularizedLoss(alpha=0.1, margin_in=-5.0, margin_out=-1.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        for x, y in rows(120, outliers=True):
            optimizer.zero_grad()
            out = model(x)
            (xent(out, y) + regularizer(out, y)).backward()
            optimizer.step()
    assert evaluate(NegativeEnergy(model.eval()))["AUROC"] > max(before, 0.99)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Random weights in the place of published ones, whose checksum is not known."""
    name = get_model_info("er-cifar10-tune").name
    entry = dataclasses.replace(published.list_published()[name], checksum="")
    monkeypatch.setitem(published.list_published(), name, entry)
    monkeypatch.setenv("FEATOOD_WEIGHTS", str(tmp_path))
    torch.manual_seed(0)
    net = WideResNet(num_classes=10)
    torch.save(net.state_dict(), tmp_path / entry.file)
    return net.eval()


def test_published_weights_are_loaded_by_their_earlier_name(weights):
    images = torch.randn(2, 3, 32, 32)
    model = WideResNet(pretrained="er-cifar10-tune").eval()
    assert torch.equal(model(images), weights(images))
    assert torch.equal(load_model("wrn-40-2/cifar10/energy/s1")(images), weights(images))
    assert NegativeEnergy(model)(images).shape == (2,)
    with pytest.raises(Mismatch, match="do not fit wrn-40-2 with 7 classes"):
        WideResNet(num_classes=7, pretrained="er-cifar10-tune")
    with pytest.raises(UsageError, match="needs num_classes"):
        WideResNet()


def test_missing_weights_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("FEATOOD_WEIGHTS", "http://127.0.0.1:9")  # a port without a server
    with pytest.raises(DataError, match="could not be downloaded") as error:
        WideResNet(num_classes=10, pretrained="oe-cifar10-tune")
    assert "\n" not in str(error.value)


def test_names_of_weights_are_those_of_pytorch_ood():
    keys = list_models()
    assert len([key for key in keys if not key.endswith("pixmix")]) == 60
    assert list_models("resnet-18", loss="vos") == [f"resnet-18/imagenet200/vos/s{seed}" for seed in range(3)]
    assert get_model_info("resnet-50/imagenet1k").network == "tv:resnet50"
    for name, key in (("cifar100-pt", "cifar100-crossentropy"), ("imagenet32-nocifar", "imagenet32-nocifar")):
        assert key in get_model_info(name).name
    with pytest.raises(UsageError, match="could be wrn-40-2/cifar10/vos/s0"):
        get_model_info("wrn-40-2/cifar10/vos")
    with pytest.raises(
        UsageError, match=r"there is no name of published weights 'er-cifar10'; .*er-cifar10-tune"
    ):
        get_model_info("er-cifar10")


def test_transforms_are_those_of_the_weights():
    from PIL import Image

    image = Image.new("RGB", (40, 32), (255, 0, 0))
    found = load_transform("wrn-40-2/cifar10/oe")(image)
    assert found.shape == (3, 32, 32)
    assert found[:, 5, 5].tolist() == pytest.approx(
        [(1 - 125.3 / 255) / (63 / 255), -123 / 62.1, -113.9 / 66.7], rel=1e-5
    )
    assert WideResNet.norm_std_for("cifar10-pt") == pytest.approx([63 / 255, 62.1 / 255, 66.7 / 255])


def test_names_of_weights_match_the_registry_of_pytorch_ood(detectors):
    from pytorch_ood.model import get_model_info as theirs
    from pytorch_ood.model import list_models as their_keys

    for key in their_keys():
        assert get_model_info(key).checksum == f"sha256:{theirs(key).sha256}"


def test_the_best_hyperparameters_are_found_and_kept():
    detector = KNN(classifier(), k=1)
    search = GridSearch(
        detector, rows(90), rows(60, outliers=True), {"k": [1, 5], "normalize": [False, True]}
    )
    best = search.run()
    assert len(search.results_) == 4 and detector.get_hyperparameters() == best
    assert search.best_score_ == max(result["score"] for result in search.results_)
    for result in search.results_:
        alone = KNN(classifier(), **result["params"]).fit(rows(90))
        metrics = OODMetrics()
        for x, y in rows(60, outliers=True):
            metrics.update(alone(x), y)
        assert metrics.compute()["AUROC"] == pytest.approx(result["score"])
    with pytest.raises(UsageError, match="give a fit_loader"):
        GridSearch(detector, None, rows(60, outliers=True)).run()
    with pytest.raises(UsageError, match="nothing to try"):
        GridSearch(NegativeEnergy(classifier()), None, rows(60))


def test_the_step_of_a_perturbation_is_searched():
    search = GridSearch(MahalanobisODIN(classifier()), rows(90), rows(60, outliers=True), {"eps": [0.0, 2.0]})
    search.run()
    assert search.results_[0]["score"] != search.results_[1]["score"]
