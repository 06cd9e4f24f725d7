import sys
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.code import code_recipe
from featood.nets import create_net


def varied(net, seed=0):
    """Give every tensor different values, so that none is mistaken for another."""
    g = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(-0.1, 0.1, generator=g).add_(name.endswith("running_var"))
    return net.eval()


TV = "tv:shufflenet_v2_x0_5"  # small, with a head named fc like that of a ResNet


def shufflenet(classes=1000, channels=3):
    from featood.extractors.vision import torchvision

    net = torchvision.models.shufflenet_v2_x0_5(num_classes=classes)
    if channels != 3:
        net.conv1[0] = nn.Conv2d(channels, 24, 3, 2, 1, bias=False)
    return varied(net)


def timm_model(name, **how):
    from featood.extractors.vision import timm

    return varied(timm.create_model(name, **how))


def from_file(name, content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    return resolve_backbone(name, str(tmp_path / "w.pt"))


def same_outputs(a, b, *shape):
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = b(x)
        assert wanted.isfinite().all()
        torch.testing.assert_close(a(x), wanted)


SMALL = {
    "tv:squeezenet1_1": 64,
    TV: 64,
    "tv:mnasnet0_5": 64,
    "tv:mobilenet_v3_small": 64,
    "timm:test_resnet": 64,
    "timm:test_vit": 160,
    "timm:test_efficientnet": 64,
    "timm:test_convnext": 64,
}


def create(name, classes, channels=3):
    from featood.extractors.vision import timm, torchvision

    family, _, rest = name.partition(":")
    if family == "timm":
        return varied(timm.create_model(rest, num_classes=classes, in_chans=channels))
    return varied(torchvision.models.get_model(rest, num_classes=classes))


@pytest.mark.parametrize("name", SMALL)
def test_another_number_of_classes(tmp_path, name):
    net = create(name, 7)
    backbone = from_file(name, {"state_dict": net.state_dict()}, tmp_path)
    size = SMALL[name]
    same_outputs(backbone.module, net, 3, size, size)
    assert "built with 7 classes, as in the file" in backbone.notes
    assert backbone.classes == () and backbone.slug == f"{name}@w"


def test_one_channel(tmp_path):
    net = shufflenet(10, channels=1)
    backbone = from_file(TV, net.state_dict(), tmp_path)
    same_outputs(backbone.module, net, 1, 64, 64)
    assert backbone.channels == backbone.transform.channels == 1
    assert backbone.transform.mean == pytest.approx((np.mean((0.485, 0.456, 0.406)),))
    assert any("averaged over colours" in note for note in backbone.notes)
    net = create("timm:test_resnet", 5, channels=1)
    backbone = from_file("timm:test_resnet", net.state_dict(), tmp_path)
    same_outputs(backbone.module, net, 1, 64, 64)
    assert backbone.transform.channels == 1 and backbone.transform.height == 160


def test_unsupported_number_of_channels(tmp_path):
    with pytest.raises(Mismatch, match="4 channels, not 1 or 3"):
        from_file(TV, shufflenet(10, channels=4).state_dict(), tmp_path)


def test_another_image_size(tmp_path, monkeypatch):
    from featood.extractors.vision import torchvision

    def small(name, weights, image_size=224, **how):
        return torchvision.models.VisionTransformer(image_size, 16, 1, 2, 32, 64, **how)

    monkeypatch.setattr(torchvision.models, "get_model", small)  # the published ones are large
    net = varied(small("vit_b_16", None, 64, num_classes=4))
    backbone = from_file("tv:vit_b_16", net.state_dict(), tmp_path)
    same_outputs(backbone.module, net, 3, 64, 64)
    assert (backbone.transform.height, backbone.transform.width) == (64, 64)
    assert any("64 x 64 pixels" in note for note in backbone.notes)
    net = timm_model("test_vit", num_classes=3, img_size=96)
    backbone = from_file("timm:test_vit", net.state_dict(), tmp_path)
    same_outputs(backbone.module, net, 3, 96, 96)
    assert backbone.transform.height == 96
    state = net.state_dict()
    state["pos_embed"] = torch.cat([state["pos_embed"], state["pos_embed"][:, :2]], 1)
    with pytest.raises(Mismatch, match="not those of a square image"):
        from_file("timm:test_vit", state, tmp_path)


@pytest.mark.parametrize("name", [TV, "timm:test_resnet", "wrn-10-1"])
@pytest.mark.parametrize("prefix", ["", "backbone.", "state_dict.model."])
def test_without_a_head(tmp_path, name, prefix):
    net = varied(create_net(name, 10)) if name[:3] == "wrn" else create(name, 1000)
    state = {prefix + key: value for key, value in net.state_dict().items() if key[:3] != "fc."}
    backbone = from_file(name, state, tmp_path)
    net.fc = nn.Identity()
    same_outputs(backbone.module, net, 3, 32, 32)
    assert any("features only, without logits" in note for note in backbone.notes)


def test_a_head_under_another_name(tmp_path):
    net = shufflenet(6)
    body = {f"backbone.{key}": value for key, value in net.state_dict().items() if key[:3] != "fc."}
    for where in ("fc", "classifier", "backbone.fc.1", "backbone.head"):
        head = {f"{where}.{key}": value for key, value in net.fc.state_dict().items()}
        backbone = from_file(TV, {"state_dict": {**body, **head}}, tmp_path)
        same_outputs(backbone.module, net, 3, 32, 32)
        assert any(f"state_dict.{where}'" in note for note in backbone.notes)
    # encoder and head stored as separate entries
    parts = {"backbone": {key[9:]: value for key, value in body.items()}, "classifier": net.fc.state_dict()}
    same_outputs(from_file(TV, parts, tmp_path).module, net, 3, 32, 32)


def test_a_head_of_several_layers_is_left_out_with_a_note(tmp_path):
    net = shufflenet()
    net.fc = nn.Sequential(nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10))
    backbone = from_file(TV, net.state_dict(), tmp_path)
    net.fc = nn.Identity()
    same_outputs(backbone.module, net, 3, 32, 32)
    assert any("fc, is not one linear layer: features only" in note for note in backbone.notes)


def test_numbered_layers(tmp_path):
    net = shufflenet()
    body = nn.Sequential(*list(net.children())[:-1])
    backbone = from_file(TV, {"encoder." + k: v for k, v in body.state_dict().items()}, tmp_path)
    net.fc = nn.Identity()
    same_outputs(backbone.module, net, 3, 32, 32)
    assert any("numbered layers" in note for note in backbone.notes)


def test_a_larger_network_is_refused(tmp_path):
    from featood.extractors.vision import torchvision

    with pytest.raises(Mismatch, match=r"unexpected layer1\.2\.conv1\.weight"):
        from_file("tv:resnet18", torchvision.models.resnet34().state_dict(), tmp_path)


def test_a_model_published_without_classes_gets_those_of_the_file(tmp_path):
    net = timm_model("eva02_tiny_patch14_224", num_classes=5, img_size=28)
    backbone = from_file("timm:eva02_tiny_patch14_224", net.state_dict(), tmp_path)
    same_outputs(backbone.module, net, 3, 28, 28)
    state = {key: value for key, value in net.state_dict().items() if key[:5] != "head."}
    backbone = from_file("timm:eva02_tiny_patch14_224", state, tmp_path)
    assert backbone.module(torch.rand(1, 3, 28, 28)).shape == (1, 192)


def test_older_names(tmp_path):
    import re

    from featood.extractors.vision import timm, torchvision

    net = varied(torchvision.models.densenet121(num_classes=3))
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in net.state_dict().items()
    }
    assert older.keys() != net.state_dict().keys()
    same_outputs(from_file("tv:densenet121", older, tmp_path).module, net, 3, 32, 32)
    name = "swin_tiny_patch4_window7_224"
    net = timm_model(name, num_classes=4)
    older = {}
    for key, value in net.state_dict().items():
        key = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
        older[key.replace("head.fc.", "head.")] = value
    older["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    backbone = from_file(f"timm:{name}", {"model": older}, tmp_path)
    wanted = timm.models.swin_transformer.checkpoint_filter_fn(older, net)
    assert all(torch.equal(value, wanted[key]) for key, value in backbone.module.state_dict().items())
    assert any("converted by timm" in note for note in backbone.notes)


def test_shortcuts_under_another_name(tmp_path):
    net = varied(create_net("cifar-resnet18", 10))
    state = {
        key.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for key, value in net.state_dict().items()
    }
    backbone = from_file("cifar-resnet18", {"net": {"module." + k: v for k, v in state.items()}}, tmp_path)
    same_outputs(backbone.module, net, 3, 32, 32)


@pytest.mark.parametrize("name", ["lenet", "cifar-vgg11", "wrn-10-1", "densenet-10-4", "cifar-resnet26"])
@pytest.mark.parametrize("backwards", [False, True])
def test_classes_and_channels_of_own_networks_with_any_order_of_names(tmp_path, name, backwards):
    from featood.nets import net_defaults

    channels = 4 - net_defaults(name).in_channels
    net = varied(create_net(name, 23, in_channels=channels))
    state = OrderedDict(sorted(net.state_dict().items(), reverse=backwards))
    backbone = from_file(name, state, tmp_path)
    size = net_defaults(name).image_size
    same_outputs(backbone.module, net, channels, size, size)
    assert backbone.channels == channels
    safetensors.torch.save_file(dict(net.state_dict()), tmp_path / "s.safetensors")
    assert resolve_backbone(name, str(tmp_path / "s.safetensors")).sha256 == backbone.sha256


def test_random_weights_only_on_request(monkeypatch):
    with pytest.raises(UsageError, match=r"--weights FILE, or use --weights random") as error:
        resolve_backbone("cifar-resnet20")
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="depth of 6n"):
        resolve_backbone("cifar-resnet21")
    from featood.extractors.vision import timm, torchvision

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
    monkeypatch.setattr(timm, "create_model", offline)
    for name, where in (("tv:resnet18", "pytorch.org"), ("timm:resnet18", "huggingface.co/timm/resnet18")):
        with pytest.raises(DataError, match=f"no route to host.*{where}.*--weights random") as error:
            resolve_backbone(name)
        assert "\n" not in str(error.value)


def test_a_tag_that_timm_does_not_have():
    with pytest.raises(UsageError, match=r"no weights 'resnet18\.nope' \(it has: resnet18\.a1_in1k"):
        resolve_backbone("timm:resnet18.nope", "random")


CODE = """
import dataclasses
import torch
from torch import nn
import {helper}

@dataclasses.dataclass
class Options:
    width: int = 4

class Net(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.fc = nn.Linear({helper}.WIDTH, 2)
        self.scale = scale

def cos(): return Net(1.0)
def temp(): return Net({scale})
class inner:
    make = staticmethod(cos)
"""


@pytest.fixture
def bb(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helper_of_bb.py").write_text("WIDTH = 3\n")
    (tmp_path / "bb.py").write_text(CODE.format(helper="helper_of_bb", scale=2.0))
    yield tmp_path
    for name in ("bb", "helper_of_bb"):
        sys.modules.pop(name, None)


def test_callables_have_separate_folders(bb):
    slugs = [resolve_backbone(f"python:bb:{name}").slug for name in ("cos", "temp", "inner.make")]
    assert slugs == ["bb.cos", "bb.temp", "bb.inner.make"]
    net = resolve_backbone("python:bb:cos")
    torch.save(net.module.state_dict(), bb / "a.pt")
    assert resolve_backbone("python:bb:cos", "a.pt").slug == "bb.cos@a"


def test_a_callable_in_a_file(bb):
    folder = bb / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "my net.py").write_text((bb / "bb.py").read_text())
    (folder / "helper_of_bb.py").write_text("WIDTH = 3\n")
    for path in ("deep/er/my net.py", f"{folder}/my net.py"):
        backbone = resolve_backbone(f"python:{path}:temp")
        assert backbone.slug == "my net.temp" and backbone.module.scale == 2.0
    assert "my net" not in sys.modules and "bb" not in sys.modules
    code = code_recipe(backbone.module)
    assert code_recipe(resolve_backbone("python:bb:temp").module) == code
    (folder / "my net.py").write_text(CODE.format(helper="helper_of_bb", scale=3.0))
    changed = resolve_backbone("python:deep/er/my net.py:temp")
    assert changed.module.scale == 3.0 and code_recipe(changed.module) != code


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        (r"python:C:\nets\bb.py:make", UsageError, r"there is no file C:\\nets\\bb\.py"),
        (r"python:C:\nets\bb.py", UsageError, "is not of the form"),
        ("python:bb.py", UsageError, "is not of the form"),
        ("python:none.py:make", UsageError, r"there is no file none\.py"),
        ("python:bb.py:nope", UsageError, "no attribute 'nope'"),
        ("python:wrong.py:make", DataError, "SyntaxError"),
        ("python:bb.py:Options", UsageError, "returned Options"),
    ],
)
def test_invalid_callables(bb, name, error, text):
    (bb / "wrong.py").write_text("def make(:\n")
    with pytest.raises(error, match=text) as raised:
        resolve_backbone(name)
    assert "\n" not in str(raised.value)


def test_averaged_weights_are_preferred_for_callables(bb):
    net = resolve_backbone("python:bb:cos").module
    average = {"module." + k: v + 1 for k, v in net.state_dict().items()}
    torch.save({"model": net.state_dict(), "model_ema": average}, bb / "a.pt")
    backbone = resolve_backbone("python:bb.py:cos", "a.pt")
    assert torch.equal(backbone.module.fc.weight, net.fc.weight + 1)
    assert "used the average under 'model_ema'" in backbone.notes[0]
    raw = resolve_backbone("python:bb.py:cos", "a.pt#model")
    assert torch.equal(raw.module.fc.weight, net.fc.weight) and raw.slug == "bb.cos@a#model"


def test_files_of_weights_have_separate_folders(tmp_path):
    # the name of the file is part of the network's, which does not make it the published one
    torch.save(shufflenet().state_dict(), tmp_path / "shufflenet_v2.pth")
    assert resolve_backbone(TV, str(tmp_path / "shufflenet_v2.pth")).slug == f"{TV}@shufflenet_v2"


def test_classes_of_published_weights(tmp_path):
    backbone = from_file(TV, {"model": shufflenet().state_dict()}, tmp_path)
    assert len(backbone.classes) == len(backbone.titles) == 1000
    assert backbone.classes[0] == "n01440764" and backbone.titles[0] == "tench"
    timms = from_file("timm:test_resnet", create("timm:test_resnet", 1000).state_dict(), tmp_path)
    assert timms.classes == backbone.classes and timms.titles[0].startswith("tench,")
    assert resolve_backbone(TV, "random").classes == ()
    ten = {"model": shufflenet(2).state_dict(), "class_to_idx": {"dog": 1, "cat": 0}}
    assert from_file(TV, ten, tmp_path).classes == ("cat", "dog")
    three = {"model": shufflenet(3).state_dict(), "classes": ["cat", "dog"]}
    assert from_file(TV, three, tmp_path).classes == ()
    state = {"model": create_net("lenet", 2).state_dict(), "classes": ["a", "b"]}
    assert from_file("lenet", state, tmp_path).classes == ("a", "b")


@pytest.mark.parametrize("name", ["r3d_18", "fasterrcnn_resnet50_fpn", "raft_small"])
def test_torchvision_models_that_do_not_classify_images_or_pixels_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} does not classify images"):
        resolve_backbone(f"tv:{name}", "random")
