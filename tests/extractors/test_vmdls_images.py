"""Training of a latent space on images, reconstructions by an autoencoder, and the score of both."""

import itertools
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import multivariate_normal, norm
from test_training import Interrupting, losses, plan, same

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.errors import Mismatch, UsageError
from featood.extractors.extras import Setting
from featood.extractors.forward import ExtractOptions, Forward
from featood.extractors.models import ImageBatch, Setup, SplitNet, create_model
from featood.extractors.models.vmdls import VMDLS
from featood.extractors.reconstruction import Reconstruction
from featood.extractors.trainer import Architecture, TrainOptions, load_extractor
from featood.extractors.trainer.options import schedule_of
from featood.heads import create_head, load_head
from featood.nets import create_net
from featood.pipeline.extraction import ImageSource, Network, extract_dataset
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor

BALANCED = {
    "batch_size": 40,
    "batch_classes": 10,
    "validation": 0.1,
    "optimizer": "adam",
    "lr": 5e-3,
    "weight_decay": 0.0,
}
MARGINS = {"latent": 4, "margins_epoch": 1, "margin_jumps": 2.0, "generation_epoch": 4}


def vmdls_plan(out, **changes):
    return plan(out, **{"model": "vmdls", "options": MARGINS, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vmdls") / "net"
    train_extractor(vmdls_plan(folder), TrainOptions(epochs=12, **BALANCED))
    return folder


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder") / "ae"
    made = TrainPlan(
        model="autoencoder", dataset="digits:0-6", architecture=Architecture("lenet"), image_size=28, limit=100,
        out=folder, options={"latent": 5},
    )  # fmt: skip
    train_extractor(made, TrainOptions(epochs=2, batch_size=20, optimizer="adam", lr=1e-3))
    return folder


# ---- the objective --------------------------------------------------------------------------------


def naive_triplets(z, labels, slack, margin):
    terms = []
    for a, p, n in itertools.permutations(range(len(z)), 3):
        if labels[a] == labels[p] != labels[n]:
            near, far = np.linalg.norm(z[a] - z[p]), np.linalg.norm(z[a] - z[n])
            terms.append(max(near - far + slack, 0) + max(margin - far, 0))
    positive = [term for term in terms if term > 0]
    return sum(positive) / len(positive) if positive else 0.0


def naive_divergence(z, means, log_variances, centers, labels):
    by_class = []
    for c in sorted(set(labels)):
        rows = [
            np.mean(
                norm.logpdf(z[i], means[i], np.exp(log_variances[i] / 2)) - norm.logpdf(z[i], centers[c], 0.1)
            )
            for i in range(len(z))
            if labels[i] == c
        ]
        by_class.append(np.mean(rows))
    return np.mean(by_class)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_losses_of_two_steps_in_each_of_three_epochs(normalize):
    model = create_model(
        "vmdls",
        {**MARGINS, "kl_weight": 0.3, "generation_epoch": 1, "slack": 0.2, "margin_max_distance": 3.0,
         "normalize_embeddings": normalize},
    )  # fmt: skip
    net = SplitNet(create_net("lenet", 3, 1))
    net.parts.update(model.parts(Setup(3, net.width)))
    net.double().requires_grad_(False)
    encoder = net.parts["mu"].encoder
    rng = np.random.default_rng(0)
    centers, sums, counts = np.zeros((3, 4)), np.zeros((3, 4)), np.zeros(3)
    for step in range(6):
        epoch, position = divmod(step, 2)
        images, labels = (
            torch.from_numpy(rng.normal(size=(7, 1, 28, 28))),
            rng.choice([0, 2] if epoch else 3, 7),
        )
        torch.manual_seed(step)
        noise = torch.randn(7, 4).numpy()
        outputs = (net.features(images) @ encoder.weight.T + encoder.bias).numpy()
        means, log_variances = outputs[:, :4], outputs[:, 4:]
        z = means + np.exp(log_variances / 2) * noise
        compared = z / np.linalg.norm(z, axis=1, keepdims=True) if normalize else z
        triplet = naive_triplets(compared, labels, 0.2, (0.15, 2.15, 3.0)[epoch])
        divergence = naive_divergence(z, means, log_variances, centers, labels)
        torch.manual_seed(step)
        batch = ImageBatch(images, torch.from_numpy(labels), step, 6, epoch, ends_epoch=position == 1)
        found = model.losses(net, batch)
        assert float(found["triplet"]) == pytest.approx(triplet, rel=1e-9)
        assert float(found["divergence"]) == pytest.approx(divergence, rel=1e-9)
        assert float(found["loss"]) == pytest.approx(triplet + (0.3 if epoch else 0) * divergence, rel=1e-9)
        for i in range(7):
            sums[labels[i]] += z[i]
            counts[labels[i]] += 1
        if position == 1:
            for c in range(3):
                centers[c] = sums[c] / counts[c] if counts[c] else centers[c]
            sums[:], counts[:] = 0, 0
            np.testing.assert_allclose(net.parts["mu"].centers, centers, rtol=1e-10)


def test_training_moves_the_classes_apart(trained):
    values = losses(trained)
    assert len(values) == 12 * (270 // 40)
    net, facts, summary = load_extractor(trained)
    images = open_dataset("digits", "test")
    with torch.inference_mode():
        mu = net.parts["mu"](net.features(facts.transform([images.read(row) for row in range(200)]))).double()
    labels = images.labels[:200]
    within = max(float(mu[labels == c].std(0).mean()) for c in range(10))
    means = torch.stack([mu[labels == c].mean(0) for c in range(10)])
    assert float(torch.pdist(means).mean()) > 3 * within
    assert summary["validation_accuracy"] > 0.7


def test_the_last_layer_has_the_softmax_of_the_distances_to_the_class_means(trained):
    net, _, _ = load_extractor(trained)
    features = torch.randn(20, net.width, generator=torch.Generator().manual_seed(0))
    space = net.parts["mu"]
    with torch.inference_mode():
        mu = space(features).double()
        squared = torch.stack([(mu - center.double()).square().sum(1) for center in space.centers], 1)
        torch.testing.assert_close(
            net.classify(features).double().softmax(1), (-squared).softmax(1), rtol=1e-3, atol=1e-4
        )


# ---- batches, and epochs in which weights are frozen ----------------------------------------------


def test_balanced_batches_of_a_training_cover_the_images(tmp_path, monkeypatch):
    seen, plain = [], VMDLS.losses

    def recorded(self, net, batch):
        seen.append(batch)
        return plain(self, net, batch)

    monkeypatch.setattr(VMDLS, "losses", recorded)
    how = TrainOptions(epochs=10, **{**BALANCED, "batch_classes": 4, "batch_size": 24, "validation": 0.0})
    train_extractor(vmdls_plan(tmp_path / "net", limit=120), how)
    assert len(seen) == 50 and [batch.ends_epoch for batch in seen[:6]] == [False] * 4 + [True, False]
    for batch in seen:
        classes, counts = batch.labels.unique(return_counts=True)
        assert len(classes) == 4 and counts.tolist() == [6] * 4
    images = open_dataset("digits", "train")
    distinct = {images.read(row).tobytes() for row in range(120)}
    assert len({image.numpy().tobytes() for batch in seen for image in batch.images}) == len(distinct)


@pytest.mark.parametrize("at", [3, 11, 20])
def test_a_frozen_and_balanced_training_resumes_exactly(tmp_path_factory, tmp_path, trained, at):
    how = TrainOptions(epochs=4, frozen_epochs=2, frozen_lr=0.01, **BALANCED)
    again = {"initial": str(trained)}
    with pytest.raises(KeyboardInterrupt):
        train_extractor(vmdls_plan(tmp_path / "net", **again), how, reporter=Interrupting(at))
    for name in ("net", "whole"):
        train_extractor(vmdls_plan(tmp_path / name, **again), how)
    same(tmp_path / "whole", tmp_path / "net")


def test_weights_below_the_last_layer_are_frozen_first(tmp_path, trained, monkeypatch):
    after, plain = [], VMDLS.losses

    def recorded(self, net, batch):
        after.append({name: value.clone() for name, value in net.named_tensors().items()})
        return plain(self, net, batch)

    monkeypatch.setattr(VMDLS, "losses", recorded)
    how = TrainOptions(
        epochs=3, frozen_epochs=2, **{**BALANCED, "optimizer": "sgd", "lr": 1e-3, "weight_decay": 0.1}
    )
    train_extractor(vmdls_plan(tmp_path / "net", initial=str(trained)), how)
    first = load_file(trained / "model.safetensors")
    body = [
        name for name in first if not name.startswith("parts.") and name not in ("fc3.weight", "fc3.bias")
    ]
    parts = ["parts.mu.encoder.weight", "parts.mu.encoder.bias"]
    assert len(body) == 8
    for step, tensors in enumerate(after):
        assert all(torch.equal(tensors[name], first[name]) == (step <= 12) for name in body), step
        assert step == 0 or not any(torch.equal(tensors[name], after[0][name]) for name in parts)


def test_the_schedule_begins_after_the_frozen_epochs():
    how = {"epochs": 10, "lr": 0.1, "schedule": "steps", "milestones": (0.5,), "factor": 0.1}
    rate = schedule_of(TrainOptions(**how, frozen_epochs=2, frozen_lr=0.4), 3, 30)
    assert [rate(step) for step in range(30)] == pytest.approx([4.0] * 6 + [1.0] * 12 + [0.1] * 12)
    rate = schedule_of(TrainOptions(**how, frozen_epochs=2), 3, 30)
    assert rate(0) == 1.0


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (
            {"batch_classes": 7, "batch_size": 64},
            "cannot have as many of each of 7 classes; take a multiple, such as 63",
        ),
        ({"batch_classes": 20, "batch_size": 40}, "have 10 classes, fewer than batch_classes, 20"),
        ({"frozen_epochs": 2, "epochs": 2}, "frozen_epochs must be less than epochs, 2, not 2"),
    ],
)
def test_mistakes_are_one_line(tmp_path, how, text):
    with pytest.raises(UsageError, match=text):
        train_extractor(vmdls_plan(tmp_path / "net"), TrainOptions(**{"epochs": 1, **how}))
    assert not os.listdir(tmp_path)


# ---- reconstructions ------------------------------------------------------------------------------


def test_an_autoencoder_minimises_the_error_of_the_pixels(autoencoder):
    net, facts, summary = load_extractor(autoencoder)
    images = open_dataset("digits:0-6", "test")
    batch = facts.transform([images.read(row) for row in range(8)])
    with torch.inference_mode():
        errors = facts.model.errors(net, ImageBatch(batch, torch.zeros(8)))
        again = net.body.decoder(net.body.encoder(batch))
    expected = [np.mean((batch[i].double().numpy() - again[i].double().numpy()) ** 2) for i in range(8)]
    np.testing.assert_allclose(errors, expected, rtol=1e-5)
    assert summary["validation_error"] > 0 and "validation_accuracy" not in summary


def test_the_code_is_a_feature_of_an_autoencoder(featood, autoencoder, tmp_path):
    code, _, err = featood("extract", "--backbone", str(autoencoder), "--dataset", "digits:0-6", "--split", "test",
                           "--cache", str(tmp_path))  # fmt: skip
    assert code == 0, err
    rows = FeatureCache(tmp_path)["ae/digits:0-6/test"]
    assert rows.logits is None and rows.feature("")[:].shape[1] == 5
    net, facts, _ = load_extractor(autoencoder)
    images = open_dataset("digits:0-6", "test")
    batch = facts.transform([images.read(row) for row in range(20)])
    with torch.inference_mode():
        again = net.body.decoder(net.body.encoder(batch))
    errors = (again.double() - batch.double()).square().flatten(1).mean(1)
    found = rows.feature("reconstruction-error")[:20, 0]
    np.testing.assert_allclose(found, errors, rtol=1e-4)
    np.testing.assert_allclose(create_head("likelihood").score(rows)[:20], found, rtol=1e-6)


@pytest.fixture(scope="module")
def cached(trained, autoencoder, tmp_path_factory):
    """Columns of training and test images; the autoencoder has another normalisation."""
    place = tmp_path_factory.mktemp("cache")
    extra = Reconstruction.of(autoencoder, "conv2")
    options = ExtractOptions(taps=("conv2", "conv1"), extras=[extra])
    extract_dataset(FeatureCache(place), ImageSource("digits"), Network(str(trained)), options)
    return FeatureCache(place)


def test_the_column_has_the_first_stage_for_reconstructed_images(cached, trained, autoencoder):
    rows = cached["net/digits/test"]
    assert {"mu.avg", "conv2.avg", "conv1.avg", "conv2.reconstruction"} <= set(rows.features)
    assert "conv1.reconstruction" not in rows.features
    (net, facts, _), (coder, inside, _) = load_extractor(trained), load_extractor(autoencoder)
    images = open_dataset("digits", "test")
    pixels = [images.read(row) for row in range(40)]
    with torch.inference_mode():
        again = coder.body.decoder(coder.body.encoder(inside.transform(pixels)))
        mean, std = (
            np.array(values)[:, None, None] for values in (inside.transform.mean, inside.transform.std)
        )
        back = again.double().numpy() * std + mean
        mean, std = (
            np.array(values)[:, None, None] for values in (facts.transform.mean, facts.transform.std)
        )
        inputs = torch.from_numpy((back - mean) / std).float()
        seen = []
        net.body.conv2.register_forward_hook(lambda module, _, output: seen.append(output))
        net.body(inputs)
    expected = seen[0].double().numpy().mean((2, 3))
    np.testing.assert_allclose(rows.feature("conv2.reconstruction")[:40], expected, rtol=1e-3, atol=1e-4)


def test_the_weights_of_the_autoencoder_matter_but_not_its_place(
    cached, trained, autoencoder, featood, tmp_path
):
    shutil.copytree(autoencoder, tmp_path / "moved")
    common = ["--dataset", "digits", "--split", "test", "--tap", "conv2,conv1", "--cache", str(cached.root)]
    code, out, err = featood(
        "extract", "--backbone", str(trained), *common, "--autoencoder", str(tmp_path / "moved")
    )
    assert code == 0 and "already cached" in out, err
    other = TrainPlan(
        model="autoencoder", dataset="digits:0-6", architecture=Architecture("lenet"), image_size=28, limit=60,
        out=tmp_path / "other", options={"latent": 3},
    )  # fmt: skip
    train_extractor(other, TrainOptions(epochs=1, batch_size=20, lr=1e-3))
    code, _, err = featood("extract", "--backbone", str(trained), *common, "--autoencoder", str(other.out))
    assert code == 5 and "extras" in err


def test_an_autoencoder_that_changed_is_refused(trained, autoencoder, tmp_path):
    net, facts, _ = load_extractor(trained)
    module, images = net.whole(facts.model.shown), torch.randn(2, 1, 28, 28)
    extra = Reconstruction("conv1", "0" * 64, str(autoencoder))
    with pytest.raises(Mismatch, match="not the one with which the cache was made"):
        Forward(module, images, ExtractOptions(taps=("conv1",), extras=[extra]), facts.transform)
    extra = Reconstruction.of(autoencoder, "conv1")
    with pytest.raises(UsageError, match="add conv1 to the taps"):
        Forward(module, images, ExtractOptions(extras=[extra]), facts.transform)
    with pytest.raises(UsageError, match="known transform"):
        extra(module, images, 0, Setting())
    with pytest.raises(UsageError, match="which is no autoencoder; train one by featood train autoencoder"):
        Reconstruction.of(trained, "conv1")
    with pytest.raises(UsageError, match="contains no network trained by featood train"):
        Reconstruction.of(tmp_path, "conv1")


def test_an_autoencoder_needs_a_stage(featood, trained, autoencoder, tmp_path):
    code, _, err = featood("extract", "--backbone", str(trained), "--dataset", "digits", "--cache", str(tmp_path),
                           "--autoencoder", str(autoencoder))  # fmt: skip
    assert code == 2 and "name it by --tap" in err


# ---- the score ------------------------------------------------------------------------------------


def test_the_score_of_the_columns(cached, featood):
    place, chosen = str(cached.root), ("--latent-feature", "mu.avg", "--original", "conv2.avg",
                                       "--reconstruction", "conv2.reconstruction")  # fmt: skip
    code, _, err = featood(
        "fit", "vmdls", "--backbone", "net", "--dataset", "digits", "--cache", place, *chosen
    )
    assert code == 0, err
    train, test = cached["net/digits/train"], cached["net/digits/test"]

    def joined(rows):
        return np.concatenate(
            [rows.feature(name)[:] for name in ("mu.avg", "conv2.avg", "conv1.avg")], 1
        ).astype("f8")

    def error(rows):
        difference = rows.feature("conv2.avg")[:].astype("f8") - rows.feature("conv2.reconstruction")[:]
        return (difference**2).mean(1)

    values, labels = joined(train), train.labels[:]
    members = [values[labels == c] for c in range(10)]
    unit = np.mean(sum(((one - one.mean(0)) ** 2).sum(0) for one in members) / len(values))
    normals = [
        multivariate_normal(one.mean(0), np.cov(one.T) + 1e-6 * unit * np.eye(values.shape[1]))
        for one in members
    ]
    largest = max(normal.logpdf(values).max() for normal in normals)
    below = largest + 1 - np.max([normal.logpdf(joined(test)) for normal in normals], 0)
    expected = below * error(test) / error(train).max()
    head = load_head(next(cached.root.rglob("head.json")).parent)
    assert not any(name.startswith("model.") for name in head.state)
    np.testing.assert_allclose(head.score(test), expected, rtol=1e-4, atol=1e-6)


def test_other_sets_are_extracted_with_the_same_autoencoder(cached, featood, tmp_path):
    code, _, err = featood(
        "evaluate", "vmdls", "net", "--cache", str(cached.root), "--ood", "noise", "--latent-feature", "mu.avg",
        "--original", "conv2.avg", "--reconstruction", "conv2.reconstruction", "--out", str(tmp_path),
    )  # fmt: skip
    assert code == 0 and "30 held out by its training" in err, err
    extras = {entry.dataset: entry.manifest.recipe["extras"] for entry in cached.entries()}
    assert extras["noise"] == extras["digits"] and "folder" not in extras["digits"]["reconstruction"]
