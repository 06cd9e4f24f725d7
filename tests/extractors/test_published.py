import dataclasses
import hashlib
import re
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from file_server import serving

from featood.data import get_entry, open_dataset
from featood.errors import DataError, UsageError
from featood.extractors.backbones import list_published, published, resolve_backbone
from featood.nets import changed_options, create_net, is_net

NAMES = list(list_published())


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An empty folder of weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("FEATOOD_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def unchecked(monkeypatch):
    """Entries without checksums, for files made here."""
    known = {name: dataclasses.replace(entry, checksum="") for name, entry in list_published().items()}
    monkeypatch.setattr(published, "list_published", lambda: known)
    return known


# --- the list -------------------------------------------------------------------------------------------


def test_entries_are_sound():
    places = set()
    for name, entry in list_published().items():
        network, _, tag = name.partition(".")
        assert network and re.fullmatch(r"[a-z0-9-]+", tag)
        assert network == entry.network.removeprefix("tv:")
        if is_net(network):
            assert changed_options(network, entry.options) == entry.options
        assert entry.url.startswith("https://") and entry.page.startswith("https://")
        assert (entry.file, entry.member) not in places, "one file, two names"
        places.add((entry.file, entry.member))
        algorithm, _, digits = entry.checksum.partition(":")
        assert entry.checksum == "" or (algorithm == "sha256" and re.fullmatch(r"[0-9a-f]{8,64}", digits))
        assert bool(entry.checksum) <= bool(entry.checksum_from)
        assert (entry.accuracy is not None) <= bool(entry.accuracy_from)
        if entry.checksum_from == "the file name":
            assert digits in entry.file
        transform = entry.transform
        assert transform.height == transform.width == {32: 32, 28: 28, 224: 224}[transform.height]
        assert entry.classes == () or len(entry.classes) == get_entry(entry.dataset).num_classes


def test_every_name_of_the_registry_of_pytorch_ood():
    """60 of version 0.4.0, and two of PixMix in earlier versions."""
    tags = [name.partition(".pytorch-ood-")[2] for name in NAMES if ".pytorch-ood-" in name]
    assert len(tags) == 62 and sum("pixmix" in tag for tag in tags) == 2
    for dataset in ("cifar10", "cifar100", "imagenet200"):
        for training in ("oe", "energy", "logitnorm", "entropic", "vos"):
            assert sum(tag.startswith(f"{dataset}-{training}") for tag in tags) >= 3


# --- real files -----------------------------------------------------------------------------------------

# test_extract.py has the accuracy of cifar-resnet20.akamaster-cifar10; the others take longer
REAL = [name for name in NAMES if name.startswith("mnist-convnet.")]


@pytest.mark.parametrize("name", REAL)
def test_accuracy_of_real_files(name, test_data, monkeypatch):
    monkeypatch.setenv("FEATOOD_WEIGHTS", str(test_data / "weights"))
    entry = list_published()[name]
    backbone = resolve_backbone(name)
    images = open_dataset(entry.dataset, "test", test_data)
    assert backbone.classes == get_entry(entry.dataset).classes and backbone.slug == name
    with torch.inference_mode():
        logits = backbone.module(backbone.transform([images.read(row) for row in range(1000)]))
    accuracy = 100 * (logits.argmax(1).numpy() == images.labels[:1000]).mean()
    assert accuracy == pytest.approx(entry.measured)


@pytest.mark.parametrize("name", [name for name, entry in list_published().items() if entry.measured])
def test_real_files_have_their_checksums(name, test_data, monkeypatch):
    monkeypatch.setenv("FEATOOD_WEIGHTS", str(test_data / "weights"))
    entry = list_published()[name]
    if not (test_data / "weights" / entry.file).is_file():
        pytest.skip(f"{entry.file} is not in the folder of test data")
    backbone = resolve_backbone(name)
    assert backbone.transform == entry.transform
    assert not any("not been tried" in note for note in backbone.notes)


def test_a_set_is_extracted_and_another_like_it(featood, test_data, toy_images, monkeypatch):
    monkeypatch.setenv("FEATOOD_WEIGHTS", str(test_data / "weights"))
    name = "cifar-resnet20.akamaster-cifar10"
    code, out, err = featood("extract", "--backbone", name, "--dataset", "toy")
    assert code == 0 and f"{name}/toy/test: 60 rows" in out
    assert "published accuracy 91.73 % (README)" in err and "BSD-2-Clause" in err
    assert "mean 0.485,0.456,0.406" in err
    code, out, err = featood("score", "--head", "energy", "--ood", "odd")
    assert code == 0 and "odd" in out


# --- files with the names and shapes of the publishers, none of which is here --------------------------------


def varied(net, seed=0):
    g = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(0, 0.1, generator=g).abs_() if name.endswith("running_var") else tensor.normal_(
                0, 0.1, generator=g
            )
    return net.eval()


def agree(module, reference, channels=3, side=32):
    x = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = reference(x)
        torch.testing.assert_close(module(x), wanted)
        assert wanted.isfinite().all() and wanted.std() > 0


def option_b(state, x, blocks):
    """The forward pass of chenyaofo's networks, from the state dict."""

    def norm(name, x):
        mean, var, weight, bias = (
            state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    x = F.relu(norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for stage in (1, 2, 3):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(f"{at}.bn1", F.conv2d(x, state[f"{at}.conv1.weight"], stride=stride, padding=1)))
            y = norm(f"{at}.bn2", F.conv2d(y, state[f"{at}.conv2.weight"], padding=1))
            if stride == 2:
                x = norm(f"{at}.downsample.1", F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=2))
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def test_resnets_of_chenyaofo(weights, unchecked):
    entry = unchecked["cifar-resnet20.chenyaofo-cifar100"]
    g = torch.Generator().manual_seed(0)
    state = {}

    def norm(name, width):
        for key in ("weight", "bias", "running_mean"):
            state[f"{name}.{key}"] = torch.randn(width, generator=g)
        state[f"{name}.running_var"] = torch.rand(width, generator=g) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    def conv(name, *shape):
        state[f"{name}.weight"] = torch.randn(*shape, generator=g) / (shape[1] * shape[2] ** 2) ** 0.5

    conv("conv1", 16, 3, 3, 3), norm("bn1", 16)
    before = 16
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for block in range(3):
            at = f"layer{stage}.{block}"
            conv(f"{at}.conv1", width, before, 3, 3), norm(f"{at}.bn1", width)
            conv(f"{at}.conv2", width, width, 3, 3), norm(f"{at}.bn2", width)
            if before != width:
                conv(f"{at}.downsample.0", width, before, 1, 1), norm(f"{at}.downsample.1", width)
            before = width
    state["fc.weight"], state["fc.bias"] = torch.randn(100, 64, generator=g), torch.randn(100, generator=g)
    torch.save(state, weights / entry.file)
    backbone = resolve_backbone(entry.name)
    agree(backbone.module, lambda x: option_b(state, x, 3))
    assert backbone.classes == get_entry("cifar100").classes
    assert backbone.options == {"shortcut": "projection"}
    assert any("not been tried" in note for note in backbone.notes)


@pytest.mark.parametrize(
    ("name", "renamed", "wrapped"),
    [
        ("wrn-40-2.pytorch-ood-cifar10-crossentropy", {}, lambda state: state),
        ("wrn-40-2.pytorch-ood-cifar100-vos-s0", {}, lambda state: state),
        (
            "wrn-40-2.pytorch-ood-imagenet32-nocifar-crossentropy",
            {},
            lambda state: {f"module.{key}": value for key, value in state.items()},
        ),
        (
            "wrn-40-4.pytorch-ood-cifar10-pixmix",
            {"convShortcut": "conv_shortcut"},
            lambda state: {
                "epoch": 3,
                "state_dict": {f"module.{key}": value for key, value in state.items()},
            },
        ),
        ("wrn-16-4.outlier-exposure-svhn-oe-tune", {}, lambda state: state),
    ],
)
def test_wide_resnets(weights, unchecked, name, renamed, wrapped):
    entry = unchecked[name]
    classes = {"svhn": 10, "cifar10": 10, "cifar100": 100}.get(entry.dataset, 1000)
    net = varied(create_net(entry.network, classes))
    state = {}
    for key, value in net.state_dict().items():
        for old, new in renamed.items():
            key = key.replace(old, new)
        state[key] = value
    torch.save(wrapped(state), weights / entry.file)
    backbone = resolve_backbone(name)
    agree(backbone.module, net)
    assert len(backbone.classes) in (0, classes)


@pytest.mark.parametrize(
    ("name", "above"),
    [("cifar-resnet18.openood-cifar100-s2", "results/"), ("cifar-resnet34.heat-cifar10", "")],
)
def test_members_of_archives(weights, unchecked, name, above):
    entry = unchecked[name]
    classes = get_entry(entry.dataset).num_classes
    net = varied(create_net(entry.network, classes))
    if "heat" in name:  # timm's names, in a checkpoint of a training
        content = {"model_state": net.state_dict(), "opt_state": {"lr": 0.1}, "epoch": 199}
    else:  # names of code for CIFAR
        content = {key.replace("downsample", "shortcut"): value for key, value in net.state_dict().items()}
    torch.save(content, weights / "x")
    with zipfile.ZipFile(weights / entry.file, "w") as archive:
        archive.write(weights / "x", above + entry.member)
        archive.writestr("readme.txt", "x")
    backbone = resolve_backbone(name)
    agree(backbone.module, net)
    assert backbone.transform.resize == 32 and len(backbone.classes) == classes
    again = resolve_backbone(name)  # from the unpacked file
    assert again.sha256 == backbone.sha256
    (weights / entry.file).unlink()
    assert resolve_backbone(name).sha256 == backbone.sha256


def test_archives_without_the_member_or_damaged(weights, unchecked):
    entry = unchecked["cifar-resnet34.heat-cifar10"]
    with zipfile.ZipFile(weights / entry.file, "w") as archive:
        archive.writestr("other.ckpt", "x")
    with pytest.raises(DataError, match=r"does not contain cifar10/resnet34.*other\.ckpt"):
        resolve_backbone(entry.name)
    (weights / entry.file).write_bytes(b"<html>")
    with pytest.raises(DataError, match="not a readable zip"):
        resolve_backbone(entry.name)


def test_networks_of_torchvision(weights, unchecked):
    from featood.extractors.vision import torchvision

    entry = unchecked["resnet18.pytorch-ood-imagenet200-oe-s0"]
    net = varied(torchvision.models.resnet18(num_classes=200))
    torch.save(net.state_dict(), weights / entry.file)
    backbone = resolve_backbone(entry.name)
    agree(backbone.module, net, side=64)
    assert backbone.transform == entry.transform and backbone.transform.fit == "stretch"
    assert len(backbone.classes) == 200 and backbone.classes[0].startswith("n0")
    assert not any("preprocessed as for" in note for note in backbone.notes)


# --- finding the file -----------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch, tmp_path, unchecked):
    """Serve the file of an entry whose checksum is not published."""
    entry = unchecked["wrn-16-4.outlier-exposure-svhn"]
    state = varied(create_net("wrn-16-4", 10)).state_dict()
    torch.save(state, tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FEATOOD_WEIGHTS", raising=False)
    with serving() as site:
        unchecked[entry.name] = dataclasses.replace(entry, url=f"{site.address}/far/{entry.file}")
        site.files[f"/far/{entry.file}"] = content
        yield site, unchecked[entry.name], content


def test_a_download_pins_the_first_content(served, tmp_path):
    site, entry, content = served
    backbone = resolve_backbone(entry.name)
    folder = tmp_path / "home" / "featood" / "weights"
    digest = hashlib.sha256(content).hexdigest()
    assert (folder / entry.file).read_bytes() == content
    assert (folder / f"{entry.file}.sha256").read_text() == f"{digest}  {entry.file}\n"
    assert resolve_backbone(entry.name).sha256 == backbone.sha256 and len(site.requests) == 1
    (folder / entry.file).write_bytes(content[:-1] + b"?")
    with pytest.raises(DataError, match=r"does not have the checksum of the first download.*remove it"):
        resolve_backbone(entry.name)


def test_a_mirror_is_asked_by_the_name_of_the_file(served, monkeypatch, tmp_path):
    site, entry, content = served
    monkeypatch.setenv("FEATOOD_WEIGHTS", f"{site.address}/mirror/")
    site.files[f"/mirror/{entry.file}"] = content
    resolve_backbone(entry.name)
    assert [path for path, _ in site.requests] == [f"/mirror/{entry.file}"]


def test_a_file_that_cannot_be_downloaded_says_what_to_do(served, weights):
    site, entry, _ = served
    site.files.clear()
    with pytest.raises(DataError) as caught:
        resolve_backbone(entry.name)
    text = str(caught.value)
    assert "\n" not in text and entry.url in text and str(weights) in text and entry.file in text
    assert "FEATOOD_WEIGHTS" in text and "404" in text


def test_a_file_with_another_checksum_is_refused(weights):
    (weights / "resnet20-12fca82f.th").write_bytes(b"other")
    with pytest.raises(DataError, match=r"stated by the file name, sha256:12fca82f"):
        resolve_backbone("cifar-resnet20.akamaster-cifar10")


def test_a_given_file_has_inputs_and_classes_of_the_name(tmp_path):
    net = varied(create_net("cifar-resnet20", 10))
    torch.save(net.state_dict(), tmp_path / "mine.pt")
    name = "cifar-resnet20.akamaster-cifar10"
    backbone = resolve_backbone(name, str(tmp_path / "mine.pt"))
    agree(backbone.module, net)
    assert backbone.transform == list_published()[name].transform and len(backbone.classes) == 10
    assert backbone.slug == f"{name}@mine"
    assert any("of the published" in note for note in backbone.notes)


def test_unknown_tags_get_a_suggestion():
    with pytest.raises(UsageError, match=r"did you mean cifar-resnet20\.akamaster-cifar10"):
        resolve_backbone("cifar-resnet20.akamaster-cifar")


def test_the_list_is_printed(featood):
    code, out, _ = featood("backbones", "akamaster")
    assert code == 0
    assert re.search(r"cifar-resnet20\.akamaster-cifar10 +cifar10 +91\.73 +93\.60", out)
    code, out, _ = featood("backbones", "--json", "cifar-resnet44.aka")
    import json

    (entry,) = json.loads(out)["published"]
    assert (
        entry["accuracy"] == 93.1
        and entry["licence"] == "BSD-2-Clause"
        and entry["url"].startswith("https://")
    )
    assert np.isclose(entry["measured"], 93.9)
