"""Recipes of trainings, and trainings of networks with options."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from reporters import Kept
from safetensors.torch import load_file
from test_training import Interrupting, same

from featood.cache import FeatureCache
from featood.errors import Mismatch, UsageError
from featood.extractors.models import create_model, model_class
from featood.extractors.trainer import RECIPES, Architecture, TrainOptions, find_recipe, load_extractor
from featood.extractors.trainer.options import schedule_of
from featood.nets import create_net, net_options
from featood.nets.spectral import SpectralConv2d, SpectralLinear
from featood.pipeline.initial_weights import find_initial_weights
from featood.pipeline.train_plan import TrainPlan, plan_of_recipe
from featood.pipeline.training import train_extractor


def bounded_plan(out, **options):
    net = Architecture("wrn-10-1", {"sn": True, "mod": True, "coeff": 0.5, "soft_norm": True, **options})
    return TrainPlan(
        model="cross-entropy", dataset="digits", architecture=net, limit=120, image_size=8, out=out
    )


HOW = {"epochs": 3, "batch_size": 32, "lr": 0.05}


@pytest.fixture(scope="module")
def bounded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounded") / "net"
    train_extractor(bounded_plan(folder), TrainOptions(**HOW, average=0.5))
    return folder


@pytest.mark.parametrize("at", [2, 5])
def test_a_training_with_spectral_normalisation_resumes_exactly(tmp_path, bounded, at):
    how = TrainOptions(**HOW, average=0.5)
    with pytest.raises(KeyboardInterrupt):
        train_extractor(bounded_plan(tmp_path / "net"), how, reporter=Interrupting(at))
    train_extractor(bounded_plan(tmp_path / "net"), how)
    same(bounded, tmp_path / "net")


def test_its_vectors_are_saved_with_the_weights(bounded):
    net, facts, _ = load_extractor(bounded)
    assert facts.architecture.options["coeff"] == 0.5
    layer = net.body.block2.layer[0].conv1
    stored = load_file(bounded / "model.safetensors")
    assert type(layer) is SpectralConv2d and layer.weight_v.shape == (1, 16, 8, 8)
    for name in ("weight", "weight_u", "weight_v"):
        assert torch.equal(stored[f"block2.layer.0.conv1.{name}"], getattr(layer, name))
    assert layer.sigma() > 0.5
    assert "| --arch-option coeff | 0.5 |" in (bounded / "README.md").read_text()


@pytest.mark.parametrize("options", [{"linear": True, "coeff": 0.05}, {"sn": False, "negative_linear": True}])
def test_the_classifier_in_the_cache_is_the_one_that_acts(featood, tmp_path, options):
    folder, cache = tmp_path / "net", str(tmp_path / "cache")
    train_extractor(bounded_plan(folder, **options), TrainOptions(**{**HOW, "epochs": 1}))
    last = load_extractor(folder).net.last
    code, _, err = featood(
        "extract", "--backbone", str(folder), "--dataset", "digits", "--split", "test", "--cache", cache,
        "--dtype", "float32",
    )  # fmt: skip
    assert code == 0, err
    rows = FeatureCache(cache)["net/digits/test"]
    logits = rows.features["avg"][:] @ rows.classifier.weight.T + rows.classifier.bias
    np.testing.assert_allclose(logits, rows.logits[:], rtol=1e-4, atol=1e-5)
    if options.get("linear"):
        assert type(last) is SpectralLinear and last.sigma() > 0.05
        assert np.linalg.norm(rows.classifier.weight, 2) == pytest.approx(0.05, rel=0.05)
    else:
        assert (rows.classifier.weight < 0).all()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid(name):
    recipe = RECIPES[name]
    create_model(recipe.model, recipe.options)
    TrainOptions(**recipe.training)
    if model_class(recipe.model).own_network:
        assert recipe.architecture == recipe.model and not recipe.architecture_options
    else:
        known = {option.name for option in net_options(recipe.architecture)}
        assert recipe.architecture_options.keys() <= known
    assert recipe.source


def test_values_of_ddu():
    plan, options = plan_of_recipe("ddu-wrn", dataset="cifar10", out="x")
    assert (plan.model, plan.architecture.name) == ("cross-entropy", "wrn-28-10")
    assert plan.architecture.options == {
        "sn": True, "coeff": 3.0, "power_iterations": 1, "mod": True, "dropout": 0.3, "norm_momentum": 0.01,
    }  # fmt: skip
    assert (options.epochs, options.batch_size, options.lr, options.keep) == (350, 128, 0.1, "last")
    assert (options.momentum, options.nesterov, options.weight_decay) == (0.9, False, 5e-4)
    assert (options.validation, options.augment) == (0.1, ("crop-black:4", "flip"))
    rate = schedule_of(options, 351, 350 * 351)
    rates = [rate(epoch * 351 + at) for epoch, at in ((149, 350), (150, 0), (249, 350), (250, 0), (349, 350))]
    np.testing.assert_allclose(rates, [1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    "name, drops, factor", [("thesis-ce", (30, 60, 90), 0.5), ("logitnorm-wrn", (80, 140), 0.1)]
)
def test_epochs_at_which_the_learning_rate_falls(name, drops, factor):
    _, options = plan_of_recipe(name, dataset="cifar10", out="x")
    rate = schedule_of(options, 10, 10 * options.epochs)
    for number, epoch in enumerate(drops):
        assert rate(10 * epoch - 1) == pytest.approx(factor**number)
        assert rate(10 * epoch) == pytest.approx(factor ** (number + 1))


def test_what_is_given_replaces_the_values_of_a_recipe():
    lines = Kept()
    plan, options = plan_of_recipe(
        "logitnorm-wrn", architecture=Architecture("", {"dropout": 0.1}), options={"temperature": 0.04},
        training={"epochs": 5, "nesterov": True}, reporter=lines, dataset="cifar10", out="x",
    )  # fmt: skip
    assert plan.architecture == Architecture("wrn-40-2", {"dropout": 0.1})
    assert (plan.options, options.epochs, options.nesterov) == ({"temperature": 0.04}, 5, True)
    assert (options.lr, options.milestones) == (0.1, (0.4, 0.7))
    assert lines.lines == [
        "recipe logitnorm-wrn: logit-norm --arch wrn-40-2 --optimizer sgd --lr 0.1 --momentum 0.9 "
        "--weight-decay 0.0005 --batch-size 128 --schedule steps --milestones 0.4,0.7 --factor 0.1 "
        "--augment flip,crop-black:4 --validation 0 --keep last"
    ]


def test_another_architecture_or_model_leaves_their_options_out():
    plan, _ = plan_of_recipe("ddu-wrn", architecture=Architecture("lenet"), dataset="digits", out="x")
    assert plan.architecture == Architecture("lenet", {})
    plan, _ = plan_of_recipe("logitnorm-wrn", model="cross-entropy", dataset="digits", out="x")
    assert (plan.model, plan.options) == ("cross-entropy", {})


def test_mistakes_in_recipes():
    with pytest.raises(UsageError, match="did you mean ddu-wrn"):
        find_recipe("ddu-wnr")
    with pytest.raises(UsageError, match="there are: ddu-wrn, ddu-resnet18"):
        find_recipe("zzz")
    with pytest.raises(UsageError, match="continues from a trained network: name it by --initial"):
        plan_of_recipe("oe-wrn-tune", dataset="cifar10", out="x")


SMALL = ("--dataset", "digits", "--limit", "64", "--image-size", "8", "--epochs", "1", "--batch-size", "32")


def test_a_recipe_on_the_command_line(featood, tmp_path):
    out = str(tmp_path / "net")
    net = ("--arch", "wrn-10-1", "--arch-option", "sn=true", "--arch-option", "strides=1,2,1")
    code, _, err = featood("train", "--recipe", "openood-cifar10", *SMALL, *net, "--out", out)
    assert code == 0, err
    assert "recipe openood-cifar10: cross-entropy --arch wrn-10-1 --optimizer sgd --lr 0.1" in err
    assert "--batch-size" not in err and "--epochs" not in err
    body = json.loads((tmp_path / "net" / "extractor.json").read_text())
    assert body["data"]["recipe"] == "openood-cifar10"
    assert (body["training"]["epochs"], body["training"]["augment"]) == (1, ["flip", "crop-black:4"])
    assert body["training"]["validation"] == 0.02

    code, _, err = featood(
        "train", "logit-norm", "--recipe=openood-cifar10", *SMALL, *net, "--out", out, "--overwrite"
    )
    assert code == 0, err
    assert "recipe openood-cifar10: logit-norm" in err


@pytest.mark.parametrize(
    "words, text",
    [
        (("--recipe", "ddu-wnr"), "did you mean ddu-wrn"),
        (("cross-entropy",), "name a network by --arch, or published settings by --recipe"),
        (("cross-entropy", "--arch", "wrn-10-1", "--arch-option", "dropot=1"), "has no option 'dropot'"),
        (
            ("cross-entropy", "--arch", "wrn-10-1", "--arch-option", "sn=maybe"),
            "sn takes true or false, not 'maybe'",
        ),
        (("cross-entropy", "--arch", "wrn-10-1", "--arch-option", "sn"), "is written NAME=VALUE"),
    ],
)
def test_mistakes_on_the_command_line(featood, tmp_path, words, text):
    code, _, err = featood("train", *words, *SMALL, "--out", str(tmp_path / "net"))
    assert code == 2 and text in err
    assert not list(tmp_path.glob("net*"))


def test_options_and_recipes_are_listed(featood):
    code, out, _ = featood("backbones", "wrn-28-10")
    assert code == 0 and "sn=false" in out and "strides=1,2,2" in out
    code, out, _ = featood("train", "--help")
    assert code == 0 and all(name in out for name in RECIPES)


def test_training_from_the_weights_of_another(tmp_path):
    def plan(name, initial="", **given):
        net = Architecture("wrn-10-1", {"sn": True})
        return TrainPlan(model="cross-entropy", dataset="digits", limit=64, image_size=8, out=tmp_path / name,
                         initial=initial, **{"architecture": net, **given})  # fmt: skip

    first = str(tmp_path / "first")
    train_extractor(plan("first"), TrainOptions(epochs=1, batch_size=32))
    train_extractor(plan("second", first), TrainOptions(epochs=1, batch_size=32, lr=0.0, keep="last"))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    for name, value in one.items():
        assert (
            torch.equal(value, two[name])
            or "running" in name
            or "tracked" in name
            or name[-2:] in ("_u", "_v")
        )
    data = json.loads((tmp_path / "second" / "extractor.json").read_text())["data"]
    assert data["initial"] == first and len(data["initial_digest"]) == 64
    with pytest.raises(UsageError, match="there is no backbone 'nothing'"):
        train_extractor(plan("third", "nothing"), TrainOptions(epochs=1))
    with pytest.raises(Mismatch, match="do not fit the network with these options"):
        train_extractor(plan("third", first, architecture=Architecture("wrn-10-2")), TrainOptions(epochs=1))


def test_training_from_a_file_with_its_normalisation(tmp_path):
    net = create_net("lenet", 10, generator=torch.Generator().manual_seed(1))
    torch.save(net.state_dict(), tmp_path / "lenet.pt")
    kept = Kept()
    plan = TrainPlan(
        model="cross-entropy", dataset="digits", limit=64, image_size=28, out=tmp_path / "net", mean=(0.0,),
        std=(1.0,), initial=str(tmp_path / "lenet.pt"), architecture=Architecture("lenet"),
    )  # fmt: skip
    options = TrainOptions(epochs=1, batch_size=32, lr=0.0)
    train_extractor(plan, options, reporter=kept)
    for name, value in load_file(tmp_path / "net" / "model.safetensors").items():
        torch.testing.assert_close(value, net.state_dict()[name], rtol=0, atol=0)
    assert any("mean 0, std 1" in line for line in kept.lines), kept.lines
    # weights of a trained network bring their transform
    again = dataclasses.replace(
        plan, out=tmp_path / "again", initial=str(tmp_path / "net"), mean=None, std=None
    )
    train_extractor(again, options, reporter=kept)
    assert any(
        "inputs (as of the initial weights): " in line and "mean 0, std 1" in line for line in kept.lines
    )
    with pytest.raises(UsageError, match=r"--mean is for pixels in \[0, 1\]"):
        train_extractor(dataclasses.replace(plan, mean=(128.0,), out=tmp_path / "third"), options)


def test_a_last_layer_for_other_classes_starts_anew(tmp_path):
    torch.save(create_net("lenet", 7).state_dict(), tmp_path / "lenet.pt")
    kept = Kept()
    weights = find_initial_weights(str(tmp_path / "lenet.pt"), Architecture("lenet"))
    net = create_net("lenet", 10)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    weights.load(net, kept)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name] if name.startswith("fc3") else weights.tensors[name]), name
    assert kept.lines == ["initial weights: fc3 has 7 outputs, not 10, and starts from random weights"]
