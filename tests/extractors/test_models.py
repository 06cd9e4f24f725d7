"""All models: their losses fall, they resume exactly, and what is extracted is what they computed."""

import csv
import dataclasses
import math

import click
import numpy as np
import pytest
import torch

from featood.cache import FeatureCache
from featood.cache.densities import is_energy
from featood.data import open_dataset
from featood.errors import DataError, UsageError
from featood.extractors.models import ImageBatch, Model, Setup, SplitNet, create_model, list_models
from featood.extractors.models.energy_model import EnergyModel
from featood.extractors.models.queues import ClassQueues
from featood.extractors.trainer import Architecture, TrainOptions, load_extractor
from featood.heads import create_head
from featood.nets import create_net
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor
from featood.reporter import Reporter

MODELS = list_models()
GENERATED = ("vera", "vera-supervised", "epn-v", "vera-posterior")
OPTIONS = {
    "energy-finetune": {"m_in": -4.0, "m_out": -1.0, "pretraining": 0.4},
    "mcd": {"pretraining": 0.4},
    "scone": {"pretraining": 0.4},
    "vos": {"pretraining": 0.3, "queue": 4, "draws": 50},
    "npos": {"pretraining": 0.3, "queue": 8, "samples": 20, "neighbor": 4, "boundary": 6, "kept": 5},
    **{name: {"sgld_steps": 3, "buffer_size": 100} for name in ("cd", "entropy-mcmc", "epn-m")},
    **{name: {"draws": 3, "noise_size": 8, "generator_width": 16} for name in GENERATED},
    "jem": {"sgld_steps": 3, "buffer_size": 100, "classification": 10.0},
    "hdge": {"queue_size": 100},
    "flow-nce": {"levels": 1, "steps": 1, "width": 8},
    "approximate-flow": {"layers": 1, "kind": "reparameterized"},
    "glow": {"steps": 2, "width": 8},
    "iresnet": {"blocks": 1, "width": 8, "terms": 2, "roulette": False},
    "radial-flow": {"layers": 3},
    "realnvp": {"scales": 1, "blocks": 1, "width": 4},
    "vae": {"latent": 4, "draws": 1},
}
"""Options for trainings of a few updates."""
TERMS = {
    **dict.fromkeys(("mcd", "scone", "vos", "energy-finetune", "jem", *GENERATED[1:]), "classification"),
    "natpn": "uce",
    "npos": "compactness",
}
"""Losses to be lower at the end, of models whose total changes its meaning."""
HOW = TrainOptions(
    epochs=4,
    batch_size=32,
    outlier_batch=32,
    optimizer="adam",
    lr=3e-3,
    weight_decay=0.0,
    augment=("crop:1",),
)


def train(name, out, reporter=None, **options):
    net, size = "lenet", 28
    if MODELS[name].own_network:
        net, size = name, 8
    elif issubclass(MODELS[name], EnergyModel):
        net, size = "conv4-8", 16
    plan = TrainPlan(
        model=name, dataset="digits:0-6", architecture=Architecture(net), image_size=size, limit=160, out=out,
        options=OPTIONS.get(name, {}) | options,
        outliers="digits:7-9" if "outliers" in MODELS[name].card.needs else "",
    )  # fmt: skip
    train_extractor(plan, HOW, **({"reporter": reporter} if reporter else {}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folders = {}

    def get(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name) / "net"
            train(name, folders[name])
        return folders[name]

    return get


def history(folder):
    with open(folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    return {term: np.array([float(row[term]) for row in rows]) for term in rows[0]}


LIKE = {
    **dict.fromkeys(("jem", "entropy-mcmc", "epn-m", "ssm", "ssm-supervised", "conditional-nce"), "cd"),
    **dict.fromkeys(("vera-supervised", "epn-v", "vera-posterior"), "vera"),
    **dict.fromkeys(("realnvp", "radial-flow", "approximate-flow"), "glow"),
}
"""Models whose state and outputs are made by the same code as those of another."""


@pytest.mark.parametrize("name", [name for name in MODELS if LIKE.get(name) != "vera" or name == "epn-v"])
def test_the_loss_falls(trained, name):
    losses = history(trained(name))
    for term, values in losses.items():
        assert np.isfinite(values).all(), term
    values = losses[TERMS.get(name, "loss")]
    if name == "vera":
        return  # the loss is the sum of those of opponents
    assert values[-3:].mean() < values[:3].mean()


@pytest.mark.parametrize("name", ["deep-svdd", "deep-sad", "mchad", "center", "ii", "cac"])
def test_objectives_with_centres_do_not_diverge_by_default(featood, tmp_path, name):
    words = [
        "train",
        name,
        "--arch",
        "mnist-conv",
        "--dataset",
        "digits:0-7",
        "--image-size",
        "28",
        "--limit",
        "24",
    ]
    words += ["--epochs", "3", "--batch-size", "8", "--outlier-batch", "8", "--validation", "0"]
    words += ["--outliers", "digits:8-9"] * ("outliers" in MODELS[name].card.needs)
    code, out, err = featood(*words, "--out", tmp_path / "net")
    assert code == 0, err
    assert "9 updates" in out and "diverged" not in err
    own = MODELS[name].training
    assert (f"defaults of {name}: --optimizer adam --lr {own.get('lr')}" in err) == bool(own)
    losses = history(tmp_path / "net")["loss"]
    assert losses.max() <= losses[0] + 10 * abs(losses[0])  # that of ii is negative


def keeps_state(name):
    """Whether a model has state besides weights, or a network of its own, that no other stands for."""
    if name in LIKE:
        return False
    model = create_model(name, OPTIONS.get(name, {}))
    if model.own_network or type(model).around is not Model.around:
        return True
    parts = model.parts(Setup(7, 84, (1, 28, 28)))
    return any(True for part in parts.values() for _ in part.buffers())


class Interrupting(Reporter):
    def progress(self, what, done, total, **figures):
        if done == 10:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["cross-entropy", *filter(keeps_state, MODELS)])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(trained, tmp_path, name):
    with pytest.raises(KeyboardInterrupt):
        train(name, tmp_path / "net", Interrupting())
    train(name, tmp_path / "net")
    for file in ("history.csv", "model.safetensors", "last.safetensors"):
        assert (tmp_path / "net" / file).read_bytes() == (trained(name) / file).read_bytes(), file


@pytest.mark.parametrize("name", [name for name in MODELS if name == "jem" or name not in LIKE])
def test_what_is_extracted_is_what_was_trained(featood, trained, tmp_path, name):
    code, _, err = featood("extract", "--backbone", str(trained(name)), "--dataset", "digits:0-6", "--split", "test",
                           "--dtype", "float32", "--cache", str(tmp_path))  # fmt: skip
    assert code == 0, err
    rows = FeatureCache(tmp_path)["net/digits:0-6/test"]
    net, facts, _ = load_extractor(trained(name))
    images = open_dataset("digits:0-6", "test")
    batch = facts.transform([images.read(row) for row in range(len(images))])
    labels = torch.from_numpy(images.labels)
    with torch.inference_mode():
        if column := facts.model.density_column:
            total = net(batch).logsumexp(1, keepdim=True)
            found = rows.feature(column)[:]
            np.testing.assert_allclose(found, -total if is_energy(column) else total, rtol=1e-4, atol=1e-5)
        if not isinstance(net, SplitNet):
            return
        features = net.features(batch)
        for part in facts.model.shown:
            np.testing.assert_allclose(
                rows.feature(f"{part}.avg")[:], net.parts[part](features), rtol=1e-4, atol=1e-5
            )
        if not facts.model.classifies:
            assert rows.logits is None
            return
        assert rows.logits.shape == (len(images), 7)
        if name != "t2fnorm":  # whose last layer was changed for the features as they are
            wrong = facts.model.errors(net, ImageBatch(batch, labels)).numpy() > 0
            np.testing.assert_array_equal(rows.logits[:].argmax(1) != labels.numpy(), wrong)


@pytest.mark.parametrize("name", ["cac", "ii", "mchad"])
def test_the_last_layer_has_the_softmax_of_the_distances(trained, name):
    net, _, _ = load_extractor(trained(name))
    features, part = (
        torch.randn(20, net.width, generator=torch.Generator().manual_seed(0)),
        net.parts["score"],
    )
    with torch.inference_mode():
        z = part.embed(features).double()
        squared = torch.stack([(z - center.double()).square().sum(1) for center in part.centers], 1)
        expected = (-squared).softmax(1)
        torch.testing.assert_close(net.classify(features).double().softmax(1), expected, rtol=1e-3, atol=1e-5)


def test_t2fnorm_leaves_out_the_norm(trained):
    folder = trained("t2fnorm")
    net, facts, _ = load_extractor(folder)
    assert facts.model.temperature == 0.1
    features = torch.randn(4, net.width)
    with torch.inference_mode():
        scaled = torch.nn.functional.linear(features / 0.1, 0.1 * net.last.weight, net.last.bias)
        torch.testing.assert_close(net.classify(features), scaled)


def test_deep_svdd_has_no_biases_and_a_fixed_centre(trained):
    net, _, _ = load_extractor(trained("deep-svdd"))
    biases = [value for name, value in net.body.named_parameters() if name.endswith("bias")]
    assert biases and not any(value.any() for value in biases)
    centers = net.parts["score"].centers
    assert centers.shape == (1, 32) and (centers.abs() >= 0.1).all()


def test_outliers_do_not_change_models_that_do_not_use_them():
    net = SplitNet(create_net("lenet", 3, 1, torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(12, 1, 28, 28, generator=generator)
    labels = torch.tensor([0, 1, 2] * 3 + [-1] * 3)
    for name, cls in MODELS.items():
        if "outliers" in cls.card.needs or "labels" not in cls.card.needs:
            continue
        found = []
        for rows in (slice(None), slice(9)):
            model = create_model(name, OPTIONS.get(name, {}))
            torch.manual_seed(0)
            net.parts = torch.nn.ModuleDict(model.parts(Setup(3, net.width, (1, 28, 28))))
            model.prepare(net, [ImageBatch(images[:9], labels[:9])])
            torch.manual_seed(0)
            found.append(float(model.losses(net.train(), ImageBatch(images[rows], labels[rows]))["loss"]))
        assert found[0] == pytest.approx(found[1], rel=1e-5), name


def test_weights_before_the_objective_are_not_the_best(trained):
    losses = history(trained("energy-finetune"))
    with_bounds = losses["loss"] != losses["classification"]
    first = int(np.argmax(with_bounds))
    assert first == math.ceil(0.4 * len(with_bounds)) and with_bounds[first:].all()
    net, _, summary = load_extractor(trained("energy-finetune"))
    assert bool(net.parts["phase"].begun) and summary["steps"] > first


def test_queues_have_the_latest_rows():
    rng = np.random.default_rng(0)
    queues, kept = ClassQueues(3, 4, 2), {label: [] for label in range(3)}
    for size in (1, 5, 30, 7, 2):
        rows, labels = rng.normal(size=(size, 2)).astype(np.float32), rng.integers(3, size=size)
        queues.push(torch.from_numpy(rows), torch.from_numpy(labels))
        for row, label in zip(rows, labels, strict=True):
            kept[int(label)].append(tuple(row))
    assert queues.full
    for label, rows in kept.items():
        assert {tuple(row) for row in queues.rows[label].numpy()} == set(rows[-4:])
        assert int(queues.seen[label]) == len(rows)


def test_scone_updates_its_multipliers_after_each_epoch():
    model = create_model("scone")
    part = model.parts(Setup(3, 4))["constraints"]
    part.violations.copy_(torch.tensor([0.4, -3.0]))
    part.count.fill_(2)
    part.epoch.fill_(3)
    part.update(3, 1.0, 1.5)
    assert part.multipliers.tolist() == [0, 0]
    part.update(4, 1.0, 1.5)
    assert part.multipliers.tolist() == pytest.approx([0.2, 0]) and part.penalties.tolist() == [1.5, 1]
    assert int(part.count) == 0 and not part.violations.any()


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("energy-finetune", {"m_in": 0.0, "m_out": -1.0}, "m_in must not exceed m_out"),
        ("npos", {"queue": 100}, "neighbor must not exceed queue, 100"),
        ("vos", {"selected": 5, "draws": 4}, "cannot be selected from 4"),
    ],
)
def test_options_that_exclude_each_other(name, options, text):
    with pytest.raises(UsageError, match=text):
        create_model(name, options)


def test_rotation_needs_square_images():
    model = create_model("rotation")
    with pytest.raises(UsageError, match="square images"):
        model.losses(None, ImageBatch(torch.zeros(2, 1, 4, 6), torch.zeros(2, dtype=torch.long)))


def test_the_head_on_a_column_reads_scores(featood, trained, tmp_path):
    code, _, err = featood("extract", "--backbone", str(trained("background-class")), "--dataset", "digits:7-9",
                           "--split", "test", "--cache", str(tmp_path))  # fmt: skip
    assert code == 0, err
    odd = FeatureCache(tmp_path)["net/digits:7-9/test"]
    column = torch.as_tensor(odd.feature("background.avg")[:]).double()
    head = create_head("column", feature="background.avg", negate=True)
    np.testing.assert_array_equal(head.score(odd), -column[:, 0])
    with pytest.raises(DataError, match="has 84 numbers for each row"):
        create_head("column", feature="penultimate").score(odd)
    background = create_head("background")
    wide = torch.cat([torch.as_tensor(odd.logits[:]).double(), column], 1).softmax(1)
    p = wide[:, -1]
    np.testing.assert_allclose(background.score(odd), (p / (1 - p)).log(), rtol=1e-6, atol=1e-6)


def test_no_option_has_the_name_of_another_option_of_the_command():
    from featood.cli.train import train

    for name in MODELS:
        command = train.get_command(click.Context(train), name)
        names = [option for parameter in command.params for option in parameter.opts]
        assert len(names) == len(set(names)), name


def test_all_models_have_a_paper_and_help_texts():
    for cls in MODELS.values():
        assert cls.card.paper and cls.card.url.startswith("https://")
        assert all(field.metadata["help"] for field in dataclasses.fields(cls))
