"""Energies of images: what a training writes, and its defaults."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import featood
from featood.data import open_dataset
from featood.errors import UsageError
from featood.extractors.models import create_model
from featood.extractors.trainer import load_extractor
from featood.extractors.trainer.options import TrainOptions, optimizer_of
from featood.extractors.trainer.pictures import picture_of
from featood.extractors.transform import Transform
from featood.nets import create_net
from featood.nets.decoders import UpsamplingDecoder

SMALL = {"dataset": "digits", "arch": "conv4-4", "image_size": 16, "limit": 64, "epochs": 1, "batch_size": 16}
CHAINS = {"sgld_steps": 2, "buffer_size": 40}


@pytest.fixture(scope="module")
def jem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jem") / "net"
    featood.train("jem", out=folder, options=CHAINS, **SMALL)
    return folder


def test_a_model_has_defaults_of_its_own_for_the_training(jem):
    record = json.loads((jem / "extractor.json").read_text())
    assert record["training"]["optimizer"] == "adam" and record["training"]["lr"] == 1e-4
    assert record["training"]["epochs"] == 1 and record["training"]["validation"] == 0.0
    assert record["transform"]["mean"] == [0.5] and record["transform"]["std"] == [0.5]


def test_chains_are_kept_with_the_last_weights_only(jem):
    weights, last = (load_file(jem / f"{name}.safetensors") for name in ("model", "last"))
    assert last.keys() - weights.keys() == {"parts.chains.samples", "parts.chains.restarted"}
    chains = last["parts.chains.samples"]
    assert chains.shape == (40, 1, 16, 16)
    assert "chains" not in load_extractor(jem).net.parts
    again = load_extractor(jem, last=True).net.parts["chains"].samples
    assert torch.equal(again, chains)


def test_chains_start_from_the_training_images_of_their_class(tmp_path):
    kept = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        options = {**CHAINS, "start": "normal", "step_size": 0.0, "noise": 0.0, "value_clamp": 0.0}
        featood.train("jem", out=folder, options=options, seed=seed, **SMALL)
        kept.append(load_file(folder / "last.safetensors"))
    images = open_dataset("digits", "train").subset(range(64))
    pixels = load_extractor(folder).facts.transform([images.read(row) for row in range(64)])
    own = pixels[torch.from_numpy(images.labels == 3)].flatten(1)
    torch.testing.assert_close(kept[0]["parts.chains.starts.means"][3], own.mean(0))
    # of the ten blocks of chains, the fourth has states near images of this class
    states = kept[0]["parts.chains.samples"].unflatten(0, (10, 4)).flatten(2)
    distances = torch.cdist(states.mean(1), torch.stack(
        [pixels[torch.from_numpy(images.labels == label)].flatten(1).mean(0) for label in range(10)]
    ))  # fmt: skip
    assert int((distances.argmin(1) == torch.arange(10)).sum()) >= 9
    chains = [tensors["parts.chains.samples"] for tensors in kept]
    assert torch.equal(chains[0], chains[1]) and not torch.equal(chains[0], chains[2])


def test_the_folder_has_a_picture_of_samples(jem):
    with Image.open(jem / "samples.png") as picture:
        # 40 chains in rows of 7, with a margin of one pixel around each
        assert picture.size == (7 * 18, 6 * 18) and picture.mode == "RGB"


def test_pictures_have_the_images_row_by_row():
    transform = Transform(1, 2, 3, 0, (0.5,), (0.25,))
    images = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 3) / 2 - 1
    picture = picture_of(images, transform)
    assert picture.shape == (2 * 4, 3 * 5, 3) and picture.dtype == np.uint8
    for number in range(5):
        row, column = divmod(number, 3)
        tile = picture[4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
        level = round(255 * ((number / 2 - 1) * 0.25 + 0.5))
        assert (tile[1:-1, 1:-1] == level).all() and (tile[0] == 255).all() and (tile[:, 0] == 255).all()
    assert (picture[4:, 10:] == 255).all()


def test_a_divergence_is_said_and_the_last_good_state_is_kept(featood, tmp_path):
    code, _, err = featood("train", "jem", "--dataset", "digits", "--arch", "conv4-4", "--image-size", "16",
                             "--limit", "64", "--epochs", "30", "--lr", "3", "--step-size", "100", "--l2", "0",
                             "--sgld-steps", "2", "--buffer-size", "40", "--out", str(tmp_path / "net"))  # fmt: skip
    assert code == 0, err
    assert "jem diverged: the state after update 0 is kept; continue from it by --initial" in err
    assert "more --sgld-steps" in err
    card = " ".join((tmp_path / "net" / "README.md").read_text().split())
    assert "The training diverged; these are the weights after 0 updates." in card
    net = load_extractor(tmp_path / "net").net
    assert all(bool(value.isfinite().all()) for value in net.state_dict().values())
    code, _, err = featood("extract", "--backbone", str(tmp_path / "net"), "--dataset", "digits", "--split", "test",
                           "--cache", str(tmp_path / "cache"))  # fmt: skip
    assert code == 0 and "whose training diverged after 0 updates" in err


def test_generators_have_learning_rates_of_their_own():
    model = create_model("vera")
    options = TrainOptions(**model.training)
    assert options.rates["parts.sampler.network"] == 6e-5 and options.lr == 3e-5
    from featood.extractors.models import Setup, SplitNet

    net = SplitNet(create_net("conv4-4", 1, 1))
    net.parts.update(model.parts(Setup(1, net.width, (1, 16, 16))))
    optimizer = optimizer_of(net, options)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [3e-5, 3e-5, 6e-5, 6e-5]
    assert all(group["betas"] == (0.0, 0.9) for group in optimizer.param_groups)
    images = model.pictures(net, torch.zeros(2, 1, 16, 16), torch.Generator().manual_seed(0))["samples"]
    assert images.shape == (64, 1, 16, 16) and float(images.abs().max()) < 1 + 5 * 0.3


@pytest.mark.parametrize(
    "shape, side, doublings", [((1, 28, 28), 7, 2), ((3, 32, 32), 4, 3), ((1, 9, 9), 9, 0)]
)
def test_the_upsampling_decoder_doubles_as_often_as_it_can(shape, side, doublings):
    decoder = UpsamplingDecoder(5, shape, width=4)
    assert decoder.layers[0].out_features == 4 * side * side
    assert len(decoder.layers) == 4 + doublings
    codes = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    images = decoder(codes)
    assert images.shape == (3, *shape)
    torch.testing.assert_close(images[1:2], decoder(codes[1:2]))


def test_score_matching_warns_of_networks_without_second_derivatives(tmp_path):
    with pytest.warns(UserWarning, match="second derivatives"):
        featood.train("ssm", out=tmp_path / "net", **{**SMALL, "arch": "lenet", "image_size": 28})


def test_only_squares_of_some_size_are_generated():
    with pytest.raises(UsageError, match="the decoder upsampling makes square images of 4 pixels or more"):
        UpsamplingDecoder(5, (1, 8, 6))
