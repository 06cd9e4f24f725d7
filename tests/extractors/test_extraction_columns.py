import copy

import numpy as np
import pytest
import torch
from torch import nn

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.errors import Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.dropout import MonteCarloDropout, dropout_logits
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.extras import extras_from_json, extras_to_json
from featood.extractors.gram import POWERS, gram_sums
from featood.extractors.perturb import Odin, odin_logits
from featood.extractors.pooling import pool
from featood.extractors.recipe import rebuild
from featood.extractors.taps import plan_taps
from featood.extractors.transform import Transform
from featood.heads import create_head

SMALL = Transform(3, 16, 16, 0, (0.5,), (0.25, 0.3, 0.2))


def run(cache, images, net="cifar-resnet20", stop_after=None, weights="random", **how):
    class Stop(Exception):
        pass

    def progress(done, total):
        if stop_after is not None and done > stop_after:
            raise Stop

    options = ExtractOptions(**{"block_rows": 32, "batch_size": 20, **how})
    try:
        backbone = resolve_backbone(net, weights, 3)
        facts = {"weights_file": "random", "seed": 0}
        return extract(backbone, images, SMALL, FeatureCache(cache), options, facts, progress).features
    except Stop:
        return None


def pixels_of(images):
    std = torch.tensor(SMALL.std).view(-1, 1, 1)
    return (torch.from_numpy(images.array).permute(0, 3, 1, 2) / 255 - 0.5) / std


# ---- maps


def test_the_average_of_maps_is_the_input_of_the_classifier(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    features = run(tmp_path / "c", images, maps=True, dtype="float32")
    shape = features.origin.recipe["map_shape"]
    maps = features.features["map"][:].reshape(-1, *shape)
    net = resolve_backbone("cifar-resnet20", "random", 3).module
    seen = []
    net.layer3.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        net(pixels_of(images))
    np.testing.assert_allclose(maps, seen[0], atol=1e-5)
    np.testing.assert_allclose(maps.mean((2, 3)), features.features["avg"][:], atol=1e-5)


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(self.norm(self.embed(x).flatten(2).mT).mean(1))


@pytest.mark.parametrize(("net", "shape"), [(ChannelsLast(), (6, 14, 14)), (Tokens(), (6, 16))])
def test_maps_have_their_channels_first(net, shape):
    x = torch.randn(2, 3, 16, 16)
    plan = plan_taps(net.eval(), x, maps=True)
    assert plan.map_shape == shape
    with plan.recording(net) as forward, torch.no_grad():
        columns = forward(x)
    averages = columns["map"].view(2, *shape).flatten(2).mean(2)
    assert torch.allclose(averages, columns["avg"], atol=1e-5)


def test_a_map_that_is_not_averaged_is_refused():
    net = resolve_backbone("mnist-convnet", "random").module
    with pytest.raises(UsageError, match="omit --maps"):
        plan_taps(net, torch.randn(2, 1, 28, 28), maps=True)
    with pytest.raises(UsageError, match="no pooling 'map'"):
        plan_taps(net, torch.randn(2, 1, 28, 28), pools=("map",))


# ---- Gram sums


def naive_gram(maps):
    """Return the root of the row sums for each power of a map [C, T]."""
    maps = np.asarray(maps, dtype=float)
    rows = []
    for power in POWERS:
        for one in maps:
            total = sum(np.sum(one**power * other**power) for other in maps)
            rows.append(np.sign(total) * abs(total) ** (1 / power))
    return rows


@pytest.mark.parametrize("signed", [False, True])
def test_gram_sums_against_a_loop(signed):
    maps = torch.randn(4, 5, 3, 2)
    maps = maps if signed else maps.relu()
    maps[1] = 0
    maps[2, 0] = 0
    expected = np.array([naive_gram(one.flatten(1)) for one in maps])
    np.testing.assert_allclose(pool(maps, "gram"), expected, rtol=2e-4, atol=1e-4)
    last = pool(maps.permute(0, 2, 3, 1), "gram", 3)
    np.testing.assert_allclose(last, expected, rtol=2e-4, atol=1e-4)
    some = np.concatenate([expected[:, 5:10], expected[:, 15:20]], 1)  # five channels of the powers 2 and 4
    np.testing.assert_allclose(gram_sums(maps.flatten(2).mT, [4, 2]), some, rtol=2e-4, atol=1e-4)


def test_gram_sums_do_not_overflow_and_grow_with_the_square():
    positions = torch.rand(2, 6, 4)
    np.testing.assert_allclose(gram_sums(1e8 * positions), 1e16 * gram_sums(positions), rtol=1e-4)


def test_gram_columns_are_extracted_and_scored(tmp_path, toy_images):
    train, test = (
        run(tmp_path / "c", open_dataset("toy", split), taps=("layer1",), pools=("avg", "gram"))
        for split in ("train", "test")
    )
    assert {name: train.features[name].shape[1] for name in ("gram", "layer1.gram")} == {
        "gram": 64 * len(POWERS),
        "layer1.gram": 16 * len(POWERS),
    }
    head = create_head("gram").fit(train)
    assert set(head.record.sizes) == {"gram", "layer1.gram", "logits"}
    assert np.isfinite(head.score(test)).all()


def test_sets_with_gram_columns_of_an_earlier_version_are_not_extended(tmp_path, toy_images):
    features = run(tmp_path / "c", open_dataset("toy", "test"), pools=("avg", "gram"))
    assert features.origin.recipe["columns"]["gram"][-1] == "gram/1-10"
    earlier = copy.deepcopy(features.origin)
    earlier.recipe["columns"]["gram"][-1] = "gram"
    with pytest.raises(Mismatch, match=r"powers 1 to 5.*--overwrite"):
        rebuild(earlier)


# ---- ODIN


def naive_odin(net, image, epsilon, temperature, std):
    """Perturb one image in float64 by the sign of the gradient, channel by channel."""
    net, x = copy.deepcopy(net).double(), image.double()[None].requires_grad_()
    logits = net(x) / temperature
    loss = -torch.log(logits.softmax(1)[0, logits.argmax()])
    loss.backward()
    moved = x.detach().clone()
    for channel, scale in enumerate(std):
        moved[0, channel] -= epsilon / scale * torch.sign(x.grad[0, channel])
    with torch.no_grad():
        return net(moved)[0]


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_odin_against_a_loop(temperature):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    images = torch.randn(5, 3, 8, 8)
    std = torch.tensor(SMALL.std)
    found = odin_logits(net, images, 0.05 / std, temperature)
    expected = torch.stack([naive_odin(net, image, 0.05, temperature, SMALL.std) for image in images])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(found, net(images), atol=1e-3)


def test_odin_increases_the_likelihood_of_the_prediction(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    features = run(tmp_path / "c", images, extras=[Odin(0.01, 1.0)])
    plain, moved = torch.from_numpy(features.logits[:]), torch.from_numpy(features.features["odin"][:])
    predicted = plain.argmax(1, keepdim=True)
    gain = moved.log_softmax(1).gather(1, predicted) - plain.log_softmax(1).gather(1, predicted)
    assert (gain > 0).double().mean() > 0.9
    still = run(tmp_path / "d", images, extras=[Odin(0.0)])
    np.testing.assert_allclose(still.features["odin"][:], still.logits[:], atol=1e-5)
    head = create_head("odin", temperature=10.0)
    expected = [-np.exp(row / 10).max() / np.exp(row / 10).sum() for row in moved.double().numpy()]
    np.testing.assert_allclose(head.score(features), expected, rtol=1e-6)


def test_odin_in_half_precision(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    half = run(tmp_path / "c", images, extras=[Odin()], precision="bfloat16")
    whole = run(tmp_path / "d", images, extras=[Odin()])
    np.testing.assert_allclose(half.features["odin"][:], whole.features["odin"][:], atol=0.1, rtol=0.1)


# ---- Monte Carlo dropout


def test_dropout_differs_between_passes_and_keeps_the_random_state():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(12), nn.Linear(12, 4)).eval()
    images = torch.randn(6, 3, 2, 2)
    before, state = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    draws = dropout_logits(net, images, 3).view(6, 3, 4)
    assert len({row.numpy().tobytes() for row in draws[0]}) == 3
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(layer.training for layer in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    torch.rand(7)
    assert torch.equal(dropout_logits(net, images, 3).view(6, 3, 4), draws)
    assert not torch.equal(dropout_logits(net, images, 3, seed=(1,)).view(6, 3, 4), draws)
    mean = dropout_logits(net, images, 2000).view(6, 2000, 4).mean(1)
    with torch.no_grad():  # the layers are linear, so the mean of the draws is the plain pass
        np.testing.assert_allclose(mean, net(images), atol=0.15)


def test_dropout_needs_layers_with_a_positive_rate():
    wide = resolve_backbone("wrn-10-1", "random", 3).module
    images = torch.randn(2, 3, 16, 16)
    with pytest.raises(UsageError, match="--dropout-rate"):
        dropout_logits(wide, images, 2)
    draws = dropout_logits(wide, images, 2, rate=0.3)
    assert not torch.allclose(draws[:, :3], draws[:, 3:])
    assert {layer.p for layer in wide.modules() if isinstance(layer, nn.Dropout)} == {0.0}
    with pytest.raises(UsageError, match="no dropout layer"):
        dropout_logits(resolve_backbone("cifar-resnet20", "random", 3).module, images, 2, rate=0.3)
    for bad in ({"draws": 1}, {"draws": 2, "rate": 1.0}, {"draws": 2, "seed": -1}):
        with pytest.raises(UsageError, match="at least 2 passes"):
            MonteCarloDropout(**bad)


def test_draws_do_not_depend_on_interruptions(tmp_path, toy_images):
    images = open_dataset("toy", "train")
    how = {"net": "wrn-10-1", "extras": [MonteCarloDropout(3, 0.3)]}
    whole = run(tmp_path / "a", images, **how)
    assert run(tmp_path / "b", images, stop_after=60, **how) is None
    resumed = run(tmp_path / "b", images, **how)
    assert whole.features["mc.logits"].shape == (90, 9) and whole.features["mc.logits"].dtype == np.float32
    assert resumed.features["mc.logits"][:].tobytes() == whole.features["mc.logits"][:].tobytes()
    assert (create_head("mc-dropout").score(whole) > 0).all()
    with pytest.raises(Mismatch, match="batch_size"):
        run(tmp_path / "a", images, **how, batch_size=10)


# ---- provenance


def test_a_plain_extraction_keeps_its_recipe(tmp_path, toy_images):
    recipe = run(tmp_path / "c", open_dataset("toy", "test")).origin.recipe
    assert set(recipe) == {
        "backbone", "weights_sha256", "columns", "main", "transform", "dtype", "precision",
    }  # fmt: skip
    assert list(recipe["columns"]) == ["avg", "std"]


def test_extra_columns_change_only_the_fingerprint(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    plain = run(tmp_path / "plain", images, net="wrn-10-1")
    prints = {plain.fingerprint}
    for number, change in enumerate(
        (
            {"maps": True},
            {"pools": ("avg", "std", "gram")},
            {"extras": [Odin()]},
            {"extras": [Odin(epsilon=0.01)]},
            {"extras": [Odin(temperature=1.0)]},
            {"extras": [MonteCarloDropout(2, 0.3)]},
            {"extras": [MonteCarloDropout(2, 0.3, seed=1)]},
            {"extras": [MonteCarloDropout(2, 0.4)]},
        )
    ):
        features = run(tmp_path / str(number), images, net="wrn-10-1", **change)
        for name in ("avg", "std"):
            assert np.array_equal(features.features[name][:], plain.features[name][:]), change
        assert np.array_equal(features.logits[:], plain.logits[:])
        prints.add(features.fingerprint)
    assert len(prints) == 9


def test_a_manifest_rebuilds_the_extra_columns(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    extras = [Odin(0.01), MonteCarloDropout(2, 0.3, 5)]
    features = run(tmp_path / "a", images, net="wrn-10-1", maps=True, extras=extras)
    backbone, transform, options = rebuild(features.origin)
    assert (options.maps, options.extras) == (True, tuple(extras))
    again = extract(backbone, images, transform, FeatureCache(tmp_path / "b"), options).features
    assert again.fingerprint == features.fingerprint
    for name, values in features.features.items():
        assert np.array_equal(values[:], again.features[name][:]), name
    with pytest.raises(UsageError, match="'magic'"):
        extras_from_json({**extras_to_json(extras), "magic": {}})


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3)) * 2


def test_extra_columns_need_logits(tmp_path, toy_images, monkeypatch):
    (tmp_path / "embedder.py").write_text("from test_extraction_columns import Embedder\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="odin needs logits"):
        run(
            tmp_path / "c",
            open_dataset("toy", "test"),
            net="python:embedder:Embedder",
            weights="",
            extras=[Odin()],
        )


def test_extra_columns_on_the_command_line_and_in_score(featood, toy_images):
    code, out, err = featood(
        "extract", "--backbone", "wrn-10-1", "--weights", "random", "--dataset", "toy", "--image-size", 16,
        "--maps", "--pool", "avg,std,gram", "--with", "odin", "--odin-epsilon", "0.01", "--mc-dropout", 3,
        "--dropout-rate", "0.2",
    )  # fmt: skip
    assert code == 0, err
    for column in ("map 1024", "gram 640", "odin 10", "mc.logits 30"):
        assert column in out
    code, _, err = featood("fit", "gram")
    assert code == 0, err
    heads = [word for name in ("gram", "rankfeat", "odin", "mc-dropout") for word in ("--head", name)]
    code, out, err = featood("score", *heads, "--ood", "odd", "--json", "-")
    assert code == 0, err
    assert "extracting it with the settings of wrn-10-1@random/toy/test" in err and out.count('"auroc"') == 4
    code, _, err = featood("extract", "--backbone", "wrn-10-1", "--dataset", "toy", "--with", "odin,magic")
    assert code == 2 and "not magic" in err
