"""Weights with timm's ``config.json`` beside them, and what is said about weights without it."""

import json

import pytest
import safetensors.torch
import torch
from networks import randomised
from small_timm import shrink_timm

from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.presets import timm_transform
from featood.extractors.taps import plan_taps

CLIP = "vit_large_patch14_clip_224"


@pytest.fixture
def create(monkeypatch, script):
    from featood.extractors.vision import timm

    shrink_timm(monkeypatch)
    return lambda name, **how: randomised(timm.create_model(name, **how), script)


def edit(folder, **changes):
    path = folder / "config.json"
    body = json.loads(path.read_text())
    body["pretrained_cfg"].update(changes.pop("pretrained_cfg", {}))
    path.write_text(json.dumps(body | changes))


def same_outputs(net, other):
    images = torch.randn(2, 3, *net.patch_embed.img_size)
    with torch.inference_mode():
        torch.testing.assert_close(net(images), other(images))


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_preprocessing_and_pooling_are_those_of_the_folder(file, create, tmp_path):
    from featood.extractors.vision import timm

    net = create("vit_base_patch16_224.mae", global_pool="avg", img_size=32)
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    changes = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "crop_pct": 0.8}
    edit(tmp_path, pretrained_cfg=changes)
    found = resolve_backbone("timm:vit_base_patch16_224", str(tmp_path / file))
    same_outputs(net, found.module)
    expected = {"input_size": (3, 32, 32), "crop_mode": "center", **changes}
    assert found.transform == timm_transform(expected)
    assert any("config.json says" in note for note in found.notes)
    assert (found.resolved, found.options) == ("timm:vit_base_patch16_224.mae", {"global_pool": "avg"})


def test_pooling_that_no_tensor_shows(script, tmp_path):
    from featood.extractors.vision import timm

    net = randomised(timm.create_model("test_resnet", global_pool="max"), script)
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    (tmp_path / "detector").mkdir()
    bare = (tmp_path / "model.safetensors").rename(tmp_path / "detector" / "network.safetensors")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = net(images)
        assert not torch.allclose(resolve_backbone("timm:test_resnet", str(bare)).module(images), expected)
        bare.rename(tmp_path / "model.safetensors")
        found = resolve_backbone("timm:test_resnet", str(tmp_path))
        assert torch.equal(found.module(images), expected) and found.options == {"global_pool": "max"}
        (tmp_path / "config.json").unlink()
        again = resolve_backbone("timm:test_resnet", str(tmp_path), options=found.options)
        assert torch.equal(again.module(images), expected) and again.sha256 == found.sha256
    with pytest.raises(UsageError, match="no option depth"):
        resolve_backbone("timm:test_resnet", "random", options={"depth": 3})
    with pytest.raises(UsageError, match="cannot be built with"):
        resolve_backbone("timm:vit_base_patch16_siglip_224", "random", options={"global_pool": "token"})


def test_weights_of_another_architecture_are_refused(create, tmp_path):
    from featood.extractors.vision import timm

    net = create(
        "vit_base_patch16_clip_quickgelu_224.openai"
    )  # tensors of the same shapes, another activation
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    with pytest.raises(Mismatch, match="use --backbone timm:vit_base_patch16_clip_quickgelu_224") as error:
        resolve_backbone("timm:vit_base_patch16_clip_224.openai", str(tmp_path))
    assert "\n" not in str(error.value)
    edit(tmp_path, architecture="vit_base_patch16_clip_224")  # as published: both have one file
    found = resolve_backbone("timm:vit_base_patch16_clip_quickgelu_224.openai", str(tmp_path))
    same_outputs(net, found.module)


def test_files_of_other_code_and_damaged_ones(create, tmp_path):
    from featood.extractors.vision import timm

    timm.models.save_for_hf(create(f"{CLIP}.openai"), tmp_path, safe_serialization=True)
    edit(tmp_path, pretrained_cfg={"mean": "blue"})
    with pytest.raises(DataError, match="no valid preprocessing"):
        resolve_backbone(f"timm:{CLIP}.openai", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    found = resolve_backbone(f"timm:{CLIP}.openai", str(tmp_path))
    assert found.transform.mean == timm.data.OPENAI_CLIP_MEAN
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        resolve_backbone(f"timm:{CLIP}.openai", str(tmp_path))


def test_weights_that_may_be_of_another_tag(create, tmp_path):
    net = create(f"{CLIP}.openai")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "w.safetensors")
    found = resolve_backbone(f"timm:{CLIP}", str(tmp_path / "w.safetensors"))
    same_outputs(net, found.module)
    (note,) = [note for note in found.notes if "preprocessed" in note]
    assert found.transform.mean == (0.5, 0.5, 0.5) and "has another mean: name the one of your file" in note
    plan = plan_taps(found.module, torch.zeros(2, 3, 224, 224))
    assert plan.outputs == "features" and "shared with text" in plan.note  # as for the tag openai
    tagged = resolve_backbone(f"timm:{CLIP}.openai", str(tmp_path / "w.safetensors"))
    assert not any("another mean" in note for note in tagged.notes)
    assert "timm says: natively QuickGELU, use quickgelu model variant for original results" in tagged.notes
