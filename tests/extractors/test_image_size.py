"""Vision transformers for images of another size than their weights, compared with networks that timm builds for it."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from networks import randomised
from PIL import Image
from small_timm import SMALL, require_models, shrink_timm

from featood.errors import UsageError
from featood.extractors.backbones import Backbone
from featood.extractors.backbones.image_size import at_image_size

DINO = "vit_small_patch14_reg4_dinov2"


def backbone_of(net):
    return Backbone("timm:net", "timm:net", net, "random", None, "digest")


@pytest.mark.parametrize(
    ("name", "size"),
    [(DINO, 56), ("vit_base_patch16_clip_224.openai", 64), ("vit_base_patch16_siglip_224", 64),
     ("eva02_base_patch16_clip_224", 64)],
)  # fmt: skip
def test_positions_are_resampled_as_timm_does(name, size, script):
    from featood.extractors.vision import timm

    net = randomised(timm.create_model(name, **SMALL), script)
    if not hasattr(net, "set_input_size"):
        pytest.skip(f"timm {timm.__version__} cannot change the image size of {name}")
    whole = dict(net.state_dict())
    expected = timm.create_model(name, img_size=size, **SMALL).eval()
    grid, before = (size // net.patch_embed.patch_size[0],) * 2, net.patch_embed.grid_size
    prefix = 0 if net.no_embed_class else net.num_prefix_tokens
    whole["pos_embed"] = timm.layers.resample_abs_pos_embed(
        whole["pos_embed"], grid, before, num_prefix_tokens=prefix
    )
    expected.load_state_dict(whole)
    found = at_image_size(backbone_of(net), size, size)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(found.module(images), expected(images))
    assert (found.resampled, found.sha256) == (before, "digest")
    assert f"from {before[0]} x {before[1]} to {grid[0]} x {grid[1]} patches" in found.notes[0]
    assert at_image_size(found, size, size) == found  # nothing is left to do


def test_pixels_outside_the_patches(script):
    from featood.extractors.vision import timm

    net = backbone_of(timm.create_model(DINO, **SMALL))
    with pytest.raises(UsageError, match=r"patches of 14 x 14 pixels.*use --image-size 112 or 126") as error:
        at_image_size(net, 120, 120)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"use --image-size 14$"):
        at_image_size(net, 9, 9)
    published = timm.create_model("vit_so400m_patch14_siglip_384", **SMALL)  # 384 is not a multiple of 14
    (note,) = at_image_size(backbone_of(published), 384, 384).notes
    assert "the last 6 rows and 6 columns of pixels are in no patch" in note


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "vit_small_patch16_dinov3"])
def test_networks_without_position_embeddings(name):
    from featood.extractors.vision import timm

    require_models(name)
    net = backbone_of(timm.create_model(name, **(SMALL if "dino" in name else {})))
    found = at_image_size(net, 64, 64)
    assert found.resampled is None and found.module is net.module


def test_from_weights_to_scores(featood, toy_images, tmp_path, monkeypatch, script):
    from featood.extractors.vision import timm

    shrink_timm(monkeypatch)
    net = randomised(timm.create_model(DINO), script)
    safetensors.torch.save_file(net.state_dict(), tmp_path / "dino.safetensors")
    command = ["extract", "--backbone", f"timm:{DINO}.lvd142m", "--weights", tmp_path / "dino.safetensors",
               "--dataset", "toy", "--name", "dino", "--image-size", 28, "--resize", 32,
               "--dtype", "float32"]  # fmt: skip
    code, out, err = featood(*command, "--pool", "token,avg,token_avg", "--tap", "blocks.0")
    assert code == 0, err
    assert "position embeddings are resampled from 37 x 37 to 2 x 2 patches" in err
    assert "they are the class token; the 4 register tokens are not pooled" in err
    assert "token 48, avg 48, token_avg 96, blocks.0.token 48" in out
    manifest = json.loads((tmp_path / "cache/dino/toy/test/manifest.json").read_text())
    assert manifest["recipe"]["positions_resampled_from"] == [37, 37]
    assert manifest["recipe"]["transform"] == {
        "channels": 3, "height": 28, "width": 28, "resize": 32, "interpolation": "bicubic", "fit": "short",
        "mean": list(timm.data.IMAGENET_DEFAULT_MEAN), "std": list(timm.data.IMAGENET_DEFAULT_STD),
    }  # fmt: skip
    assert featood("fit", "knn", "--feature", "token_avg")[0] == 0
    code, out, err = featood("score", "--ood", "odd")  # whose images are extracted in the same way
    assert code == 0 and "knn" in out, err

    code, out, err = featood("threshold", "knn", "--out", tmp_path / "detector")
    (tmp_path / "dino.safetensors").unlink()  # the detector has the resampled weights
    code, out, err = featood("predict", tmp_path / "detector", toy_images / "odd" / "test.npz")
    assert code == 0 and len(out.splitlines()) >= 50, err

    import featood as package

    pixels = np.load(toy_images / "odd" / "test.npz")["images"]
    given = {"input_size": (3, 28, 28), "crop_pct": 28 / 32}
    config = timm.data.resolve_data_config(given, pretrained_cfg=net.default_cfg)
    transform = timm.data.create_transform(**config)
    images = torch.stack([transform(Image.fromarray(image)) for image in pixels])
    net.set_input_size(img_size=(28, 28))
    with torch.inference_mode():
        tokens = net.forward_features(images)
    odd = package.open_cache(tmp_path / "cache")["dino/odd/test"]
    torch.testing.assert_close(torch.as_tensor(odd.features["token"][:]), tokens[:, 0])
    torch.testing.assert_close(torch.as_tensor(odd.features["avg"][:]), tokens[:, 5:].mean(1))
