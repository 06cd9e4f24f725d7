"""Columns of perturbed images: AdaSCALE, i-ODIN, and the Mahalanobis distance with ODIN's step."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from test_extraction_columns import SMALL, run
from torch import nn

from featood.cache.feature_set import FeatureSet
from featood.data import open_dataset
from featood.errors import CacheCorrupt, Mismatch, UsageError
from featood.extractors.adascale import TrivialPixels, trivially_perturbed
from featood.extractors.extras import Setting, extras_from_json, extras_paths, extras_to_json
from featood.extractors.forward import ExtractOptions, Forward
from featood.extractors.gaussian import open_gaussian
from featood.extractors.iodin import InvariantOdin, iodin_logits
from featood.extractors.mahalanobis_odin import MahalanobisOdin
from featood.extractors.recipe import rebuild
from featood.extractors.transform import Transform
from featood.extractors.weights import weights_sha256
from featood.heads import create_head


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(torch.tanh(self.conv(x)).mean((2, 3)))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small().eval()


IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
EIGHT = Transform(3, 8, 8, 0, SMALL.mean, SMALL.std)


def gradient_of(net, image, score):
    """The gradient of a score of the logits of one image, in float64."""
    x = image.double()[None].requires_grad_()
    score(copy.deepcopy(net).double()(x)[0]).backward()
    return x.grad[0].numpy()


def features(net, image):
    with torch.no_grad():
        return torch.tanh(net.conv(image[None])).mean((2, 3))[0].double().numpy()


# ---- AdaSCALE


def test_trivial_pixels_against_a_loop(small):
    found = trivially_perturbed(small, IMAGES, 0.1, 0.5).numpy()
    for image, moved in zip(IMAGES, found, strict=True):
        gradient = gradient_of(small, image, torch.max).ravel()
        expected = image.numpy().ravel().astype(float)
        for place in np.argsort(np.abs(gradient))[: int(0.1 * gradient.size)]:
            expected[place] += 0.5 * np.sign(gradient[place])
        np.testing.assert_allclose(moved.ravel(), expected, atol=1e-6)
    assert (found != IMAGES.numpy()).mean() == pytest.approx(0.1, abs=0.005)
    assert torch.equal(trivially_perturbed(small, IMAGES, 0.0, 0.5), IMAGES)


def test_adascale_column_has_the_classifiers_input(small):
    columns = Forward(small, IMAGES, ExtractOptions(extras=[TrivialPixels(0.2, 0.3)]))(IMAGES, 0)
    moved = trivially_perturbed(small, IMAGES, 0.2, 0.3)
    np.testing.assert_allclose(columns["adascale"], [features(small, one) for one in moved], atol=1e-6)
    for bad in ({"share": 1.1}, {"share": -0.1}, {"step": -1.0}, {"step": float("nan")}):
        with pytest.raises(UsageError, match="adascale needs a share"):
            TrivialPixels(**bad)


# ---- i-ODIN


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_iodin_against_a_loop(small, temperature):
    step = 0.5 / torch.tensor(SMALL.std)
    found = iodin_logits(small, IMAGES, step, temperature)
    for image, logits in zip(IMAGES, found, strict=True):
        gradient = gradient_of(
            small, image, lambda one: -torch.log((one / temperature).softmax(0)[one.argmax()])
        )
        channel, row, column = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        moved = image.double().clone()
        moved[channel, row, column] -= 0.5 / SMALL.std[channel] * np.sign(gradient[channel, row, column])
        with torch.no_grad():
            np.testing.assert_allclose(logits, small(moved.float()[None])[0], atol=1e-5)


# ---- Mahalanobis distance


@pytest.fixture
def fitted(small, tmp_path):
    """A network's features, a head fitted on them, and the folder of the head, with a recipe as of images."""
    images, labels = (
        torch.randn(80, 3, 8, 8, generator=torch.Generator().manual_seed(2)),
        torch.arange(80) % 4,
    )
    forward = Forward(small, IMAGES, ExtractOptions(), EIGHT)
    rows = np.array([features(small, image) for image in images + labels[:, None, None, None]], "f4")
    head = create_head("mahalanobis").fit(rows, labels.numpy())
    recipe = {"weights_sha256": weights_sha256(small), "transform": EIGHT.as_json(), **forward.recipe}
    head.annotate(recipe=json.loads(json.dumps(recipe)))
    head.save(tmp_path / "head")
    return rows.astype(float), labels.numpy(), tmp_path / "head"


def nearest(z, rows, labels):
    """Squared distance to the nearest mean with the pooled covariance, in float64, and that mean's term of z."""
    means = np.stack([rows[labels == c].mean(0) for c in range(4)])
    centred = np.concatenate([rows[labels == c] - means[c] for c in range(4)])
    precision = np.linalg.inv(centred.T @ centred / len(rows))
    return min((z - mean) @ precision @ (z - mean) for mean in means)


def test_mahalanobis_odin_against_differences(small, fitted):
    rows, labels, folder = fitted
    net = copy.deepcopy(small).double()
    epsilon = 0.05
    forward = Forward(small, IMAGES, ExtractOptions(extras=[MahalanobisOdin.of(folder, epsilon)]), EIGHT)
    found = forward(IMAGES, 0)["mahalanobis-odin"]
    for image, values in zip(IMAGES[:2], found, strict=False):
        gradient = np.zeros(image.numel())
        for place in range(image.numel()):
            ends = []
            for shift in (1e-5, -1e-5):
                moved = image.double().flatten().clone()
                moved[place] += shift
                ends.append(nearest(features(net, moved.view(image.shape)), rows, labels))
            gradient[place] = ends[0] - ends[1]
        step = epsilon / np.array(SMALL.std)[:, None, None]
        moved = image.double() - torch.from_numpy(step * np.sign(gradient).reshape(image.shape))
        np.testing.assert_allclose(values, features(net, moved), atol=1e-5)
        before, after = (nearest(z, rows, labels) for z in (features(net, image.double()), values.numpy()))
        assert after < before


def test_mahalanobis_odin_against_pytorch_ood(small, fitted):
    from featood.extractors.vision import torchvision  # noqa: F401  (makes torchvision importable for pytorch-ood)

    detectors = pytest.importorskip("pytorch_ood.detector")
    rows, labels, folder = fitted
    peer = detectors.MahalanobisODIN(
        lambda x: torch.tanh(small.conv(x)).mean((2, 3)), eps=0.05, norm_std=list(SMALL.std)
    )
    peer.fit_features(torch.from_numpy(rows).float(), torch.from_numpy(labels))
    gaussian = open_gaussian(str(folder))
    extra = MahalanobisOdin.of(folder, 0.05)
    moved = Forward(small, IMAGES, ExtractOptions(extras=[extra]), EIGHT)(IMAGES, 0)["mahalanobis-odin"]
    # the peer divides by the scatter, not by the covariance, and halves the distance
    np.testing.assert_allclose(gaussian.nearest(moved) / len(rows) / 2, peer.predict(IMAGES), rtol=1e-3)


def test_mahalanobis_odin_refuses_other_features(small, fitted, tmp_path):
    folder = fitted[2]
    extra = MahalanobisOdin.of(folder)
    torch.manual_seed(1)
    with pytest.raises(Mismatch, match=r"other features \(differing: weights_sha256\)"):
        Forward(Small().eval(), IMAGES, ExtractOptions(extras=[extra]), EIGHT)
    Forward(small, IMAGES, ExtractOptions(extras=[extra]), EIGHT)
    with torch.no_grad():
        small.fc.weight.neg_()
    with pytest.raises(Mismatch, match=r"differing: weights_sha256"):
        Forward(small, IMAGES, ExtractOptions(extras=[extra]), EIGHT)
    with torch.no_grad():
        small.fc.weight.neg_()
    other = Transform(3, 8, 8, 0, SMALL.mean, (0.25, 0.25, 0.25))
    with pytest.raises(Mismatch, match=r"differing: transform"):
        Forward(small, IMAGES, ExtractOptions(extras=[extra]), other)
    with pytest.raises(UsageError, match="known transform"):
        Forward(small, IMAGES, ExtractOptions(extras=[extra]))
    with pytest.raises(UsageError, match="holds no fitted head"):
        MahalanobisOdin.of(tmp_path)
    create_head("mahalanobis", space="l2").fit(fitted[0], fitted[1]).save(tmp_path / "l2")
    with pytest.raises(UsageError, match="with space none"):
        MahalanobisOdin.of(tmp_path / "l2")
    create_head("gmm").fit(fitted[0], fitted[1]).save(tmp_path / "gmm")
    with pytest.raises(UsageError, match="holds gmm"):
        MahalanobisOdin.of(tmp_path / "gmm")
    with pytest.raises(UsageError, match="step of at least 0"):
        MahalanobisOdin.of(folder, -0.1)


def test_mahalanobis_odin_at_a_tapped_stage(small, tmp_path):
    images, labels = (
        torch.randn(80, 3, 8, 8, generator=torch.Generator().manual_seed(2)),
        torch.arange(80) % 4,
    )
    how = ExtractOptions(taps=("conv",), pools=("avg",))
    plain = Forward(small, IMAGES, how, EIGHT)
    columns = plain(images + labels[:, None, None, None], 0)
    data = FeatureSet({name: values.numpy() for name, values in columns.items()}, labels=labels.numpy())
    head = create_head("mahalanobis", feature="conv.avg").fit(data)
    recipe = {"weights_sha256": weights_sha256(small), "transform": EIGHT.as_json(), **plain.recipe}
    head.annotate(recipe=json.loads(json.dumps(recipe)))
    extra = MahalanobisOdin.of(head.save(tmp_path / "head"), 0.01)
    found = Forward(small, IMAGES, dataclasses.replace(how, extras=[extra]), EIGHT)(IMAGES, 0)
    gaussian = open_gaussian(extra.folder)
    assert (gaussian.nearest(found["mahalanobis-odin"]) < gaussian.nearest(found["conv.avg"])).all()
    with pytest.raises(Mismatch, match=r"differing: conv\.avg"):
        Forward(small, IMAGES, ExtractOptions(extras=[extra]), EIGHT)


def test_perturbed_columns_in_half_precision(small):
    extras = (TrivialPixels(), InvariantOdin())
    half, whole = (
        Forward(small, IMAGES, ExtractOptions(extras=extras, precision=kind), EIGHT)(IMAGES, 0)
        for kind in ("bfloat16", "float32")
    )
    for name in ("adascale", "i-odin"):
        np.testing.assert_allclose(half[name], whole[name], atol=0.05)


def test_mahalanobis_odin_notices_a_changed_head(small, fitted, tmp_path):
    folder, other = fitted[2], tmp_path / "other"
    extra = MahalanobisOdin.of(folder)
    shutil.copytree(folder, other)
    (other / "head.safetensors").write_bytes((other / "head.safetensors").read_bytes()[:-1] + b"\1")
    with pytest.raises(CacheCorrupt, match=r"does not match head.json"):
        MahalanobisOdin.of(other)
    with pytest.raises(Mismatch, match="extract again"):
        changed = MahalanobisOdin("0" * 64, extra.folder)
        Forward(small, IMAGES, ExtractOptions(extras=[changed]), EIGHT)
    restored = extras_from_json(extras_to_json([extra]), extras_paths([extra]))
    assert restored == (extra,)
    assert "folder" not in extras_to_json([extra])["mahalanobis-odin"]


def test_an_image_column_needs_a_transform(small):
    for extra in (InvariantOdin(), MahalanobisOdin("0" * 64, "nowhere")):
        with pytest.raises(UsageError, match=f"column {extra.kind} needs a known transform"):
            extra(small, IMAGES, 0, Setting())


def test_perturbed_columns_from_the_command_line_to_scores(featood, toy_images, tmp_path):
    words = ("extract", "--backbone", "cifar-resnet20", "--weights", "random", "--dataset", "toy")
    code, _, err = featood(*words, "--image-size", 16, "--dtype", "float32", "--name", "plain")
    assert code == 0, err
    code, _, err = featood("fit", "mahalanobis", "--out", tmp_path / "gaussian")
    assert code == 0, err
    code, out, err = featood(
        *words, "--image-size", 16, "--name", "moved", "--with", "adascale,i-odin", "--gaussian", tmp_path / "gaussian"
    )  # fmt: skip
    assert code == 0 and "adascale 64, i-odin 10, mahalanobis-odin 64" in out, err
    names = ("adascale-a", "adascale-l", "mahalanobis-odin", "i-odin")
    for name in names:
        code, _, err = featood("fit", name)
        assert code == 0, err
    heads = [word for name in names for word in ("--head", name)]
    code, out, err = featood("score", *heads, "--ood", "odd", "--json", "-")
    assert code == 0 and out.count('"auroc"') == 4, err
    code, _, err = featood(*words, "--image-size", 24, "--name", "x", "--gaussian", tmp_path / "gaussian")
    assert code != 0 and "differing: transform" in err and err.count("\n") <= 8


def test_a_manifest_rebuilds_the_perturbed_columns(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    plain = run(tmp_path / "a", open_dataset("toy", "train"))
    folder = create_head("mahalanobis", shrinkage="oas").fit(plain).save(tmp_path / "head")
    extras = (TrivialPixels(0.1), InvariantOdin(0.01, 1.0), MahalanobisOdin.of(folder, 0.01))
    made = run(tmp_path / "b", images, extras=extras)
    assert rebuild(made.origin)[2].extras == extras
    assert made.fingerprint != plain.fingerprint
    for name in ("avg", "std"):
        assert np.isfinite(made.features[name][:]).all()
