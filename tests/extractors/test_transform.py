import dataclasses
import json

import numpy as np
import pytest
import torch
from manifests import manifest
from PIL import Image

from featood.data import packed_set
from featood.data.images.reading import read_image
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.presets import timm_transform, torchvision_transform
from featood.extractors.recipe import choose_transform, rebuild
from featood.extractors.transform import IMAGENET, INTERPOLATIONS, Transform, resized
from featood.extractors.vision import timm, torchvision
from featood.sealed import digest

SIZES = [(1, 1), (1, 90), (57, 1), (40, 40), (37, 90), (91, 33), (334, 500), (500, 332), (333, 251)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(256, size=(*size, 3), dtype=np.uint8)) for size in SIZES]


def config(size, crop_pct, mode="center", interpolation="bicubic", **other):
    body = {"input_size": size, "crop_pct": crop_pct, "crop_mode": mode, "interpolation": interpolation}
    return {**body, "mean": MEAN, "std": STD, **other}


def classification(**values):
    class Weights:
        def transforms(self):
            return torchvision.transforms._presets.ImageClassification(**values)

    return Weights()


def assert_same(ours: Transform, theirs, pictures) -> None:
    for picture in pictures:
        expected = theirs(picture)
        assert torch.equal(ours([np.array(picture)])[0], expected), picture.size


def assert_same_as_timm(values, pictures) -> None:
    ours = timm_transform(values)
    assert_same(ours, timm.data.create_transform(**values), pictures)
    plain = timm.data.create_transform(**values, normalize=False)
    for picture in pictures:
        pixels = torch.from_numpy(ours.pixels(np.array(picture)).copy()).permute(2, 0, 1)
        assert torch.equal(pixels, plain(picture))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("size", "crop_pct"),
    [
        ((3, 32, 32), 0.9),
        ((3, 64, 64), 0.95),
        ((3, 32, 32), 1.0),
        ((3, 41, 41), 1.15),
        ((3, 48, 64), 1.0),
        ((3, 65, 40), 0.875),
        ((3, 65, 40), 1.15),
    ],
)
def test_timm_geometries(pictures, size, crop_pct, mode):
    assert_same_as_timm(config(size, crop_pct, mode), pictures[3:] if mode == "border" else pictures)


@pytest.mark.parametrize("mode", ["center", "border"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_timm_interpolations(pictures, interpolation, mode):
    assert_same_as_timm(config((3, 32, 32), 0.9, mode, interpolation), pictures[3:])


@pytest.mark.parametrize(
    "weights",
    [
        "ResNet50_Weights.IMAGENET1K_V1",
        "ResNet50_Weights.IMAGENET1K_V2",
        "EfficientNet_B1_Weights.IMAGENET1K_V2",
        "GoogLeNet_QuantizedWeights.IMAGENET1K_FBGEMM_V1",
        "EfficientNet_B0_Weights.IMAGENET1K_V1",
    ],
)
def test_transforms_of_torchvision_weights(pictures, weights):
    family, member = weights.split(".")
    models = torchvision.models if hasattr(torchvision.models, family) else torchvision.models.quantization
    chosen = getattr(models, family)[member]
    assert_same(torchvision_transform(chosen), chosen.transforms(), pictures)


@pytest.mark.parametrize(("crop", "resize"), [(48, 32), (33, 32), (65, 64), (32, 32)])
def test_torchvision_pads_for_a_larger_crop(pictures, crop, resize):
    weights = classification(crop_size=crop, resize_size=resize)
    assert_same(torchvision_transform(weights), weights.transforms(), pictures)


def test_timm_rounds_sides_down(pictures):
    for crop_pct, resize in ((0.875, 256), (0.9, 248), (0.95, 235)):
        values = config((3, 224, 224), crop_pct)
        assert timm_transform(values).resize == resize
        assert_same_as_timm(values, pictures[-3:])
    lite = resolve_backbone("timm:tf_efficientnet_lite0", "random")
    values = timm.data.resolve_model_data_config(lite.module)
    assert (values["crop_pct"], values["interpolation"], lite.transform.resize) == (0.875, "bicubic", 256)
    assert_same(lite.transform, timm.data.create_transform(**values), pictures)


def test_torchvision_truncates_the_long_side_and_rounds_the_offset():
    assert resized((500, 332), 256, "short") == (385, 256)  # 385.54
    row = np.arange(383, dtype=np.uint8)  # (383 - 224) / 2 = 79.5, which Python rounds to 80
    pixels = dataclasses.replace(IMAGENET, resize=224).pixels(np.tile(row, (224, 1)))
    assert pixels[0, 0, 0] == 80
    row = np.arange(385, dtype=np.uint16).astype(np.uint8)  # 80.5: also 80
    assert dataclasses.replace(IMAGENET, resize=224).pixels(np.tile(row, (224, 1)))[0, 0, 0] == 80


def test_real_photos(test_data):
    photos = sorted((test_data / "imagenet" / "val").rglob("*.JPEG"))[::125]
    pictures = [Image.open(path).convert("RGB") for path in photos]
    assert_same_as_timm(config((3, 224, 224), 0.95), pictures)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    assert_same(torchvision_transform(weights), weights.transforms(), pictures)


@pytest.mark.filterwarnings("ignore:Palette images")
def test_odd_files_are_transformed_as_by_the_libraries(script, tmp_path):
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    values = config((3, 96, 96), 0.9, "border")
    for path in script("odd_images").write_odd_images(tmp_path, huge=600):
        if path.name.startswith(("grey16", "grey12", "turned")):
            continue  # read differently by the libraries; see the tests of reading
        with Image.open(path) as image:
            picture = image.convert("RGB")
        pixels = read_image(path)
        for ours, theirs in (
            (torchvision_transform(weights), weights.transforms()),
            (timm_transform(values), timm.data.create_transform(**values)),
        ):
            assert torch.equal(ours([pixels])[0], theirs(picture)), path.name


def test_images_for_grey_networks_are_converted_by_pil(pictures):
    ours = Transform(1, 32, 32, 37, (0.3,), (0.5,), "bilinear")
    steps = torchvision.transforms
    theirs = steps.Compose(
        [steps.Resize(37), steps.CenterCrop(32), steps.ToTensor(), steps.Normalize((0.3,), (0.5,))]
    )
    for picture in pictures:
        assert torch.equal(ours([np.array(picture)])[0], theirs(picture.convert("L")))
        assert torch.equal(ours([np.array(picture.convert("L"))])[0], theirs(picture.convert("L")))
    padded = timm_transform(config((1, 32, 32), 1.0, "border", mean=(0.3,), std=(0.5,)))
    assert padded.pixels(np.zeros((8, 32), np.uint8))[0, 0, 0] == round(255 * 0.3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"interpolation": "random"}, "differs from image to image"),
        ({"interpolation": "sinc"}, "not known"),
        ({"crop_mode": "corner"}, "corner"),
        ({"input_size": (4, 32, 32), "mean": (0.5,) * 4, "std": (0.5,) * 4}, "network needs 4"),
    ],
)
def test_unsupported_presets_are_refused(changes, says):
    with pytest.raises(UsageError, match=says):
        timm_transform({**config((3, 32, 32), 0.9), **changes})


def test_weights_of_other_tasks_are_refused():
    with pytest.raises(UsageError, match="not for images or their pixels"):
        torchvision_transform(torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT)
    with pytest.raises(UsageError, match="VideoClassification"):
        torchvision_transform(torchvision.models.video.R3D_18_Weights.DEFAULT)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"fit": "fill"}, "fit must be one of"),
        ({"fit": "cover"}, "a height and a width"),
        ({"resize": (32, 32)}, "a number"),
        ({"resize": -3}, "a number"),
        ({"height": 0}, "at least 1 x 1"),
        ({"sharpen": 2}, "not a transform"),
    ],
)
def test_invalid_transforms_are_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        Transform.from_json({**IMAGENET.as_json(), **fields})


def test_images_with_no_or_too_many_pixels_are_refused():
    border = timm_transform(config((3, 32, 32), 1.0, "border"))
    with pytest.raises(DataError, match="0 x 32"):
        border.pixels(np.zeros((1, 100), np.uint8))
    with pytest.raises(DataError, match="256 x 512000"):
        IMAGENET.pixels(np.zeros((1, 2000), np.uint8))


@pytest.mark.parametrize(
    ("size", "crop_pct", "mode", "wanted"),
    [
        ((3, 224, 224), 0.9, "center", 426),
        ((3, 224, 224), 0.95, "squash", (404, 404)),
        ((3, 48, 64), 1.0, "center", (384, 384)),
        ((3, 224, 224), 0.875, "border", (438, 438)),
    ],
)
def test_another_input_size_keeps_the_ratio_of_timm(pictures, size, crop_pct, mode, wanted):
    transform = timm_transform(config(size, crop_pct, mode)).at_size(384)
    assert transform.resize == wanted
    if mode != "center" or size[1] == size[2]:
        assert transform == timm_transform(config((3, 384, 384), crop_pct, mode))


def test_another_input_size_keeps_the_ratio_of_the_weights():
    backbone = resolve_backbone("tv:resnet18@IMAGENET1K_V1", "random")
    images = packed_set(np.zeros((2, 32, 32, 3), np.uint8), name="cifar10")
    assert choose_transform(backbone, images, image_size=192)[0].resize == 219  # 192 * 256 / 224 = 219.4
    images = dataclasses.replace(images, name="x")
    transform, _ = choose_transform(resolve_backbone("cifar-resnet20", "random"), images, image_size=24)
    assert (transform.height, transform.resize) == (24, 0)


def test_transforms_with_direct_resizing_keep_their_json_form():
    cifar = Transform(3, 32, 32, 0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    assert json.dumps(cifar.as_json()) == (
        '{"channels": 3, "height": 32, "width": 32, "resize": 0, "mean": [0.4914, 0.4822, 0.4465], '
        '"std": [0.247, 0.2435, 0.2616], "interpolation": "bilinear"}'
    )
    assert digest(cifar.as_json()) == "c42da1872217f3ba216ae675b0e558ccdf489e8a218c183c356121d3aa2ceada"
    mnist = Transform(1, 28, 28, 0, (0.1307,), (0.3081,))
    assert digest(mnist.as_json()) == "97dd17e5d4e16fa94ba66d40c48a1df822cf2b9bc0e6926f1a5d1d02d975e79a"


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_json_round_trip_with_the_geometry(mode):
    for size in ((3, 32, 32), (3, 48, 64)):
        transform = timm_transform(config(size, 0.9, mode))
        body = json.loads(json.dumps(transform.as_json()))
        assert body["fit"] == transform.fit and "crop_pct" not in body
        assert Transform.from_json(body) == transform
    assert IMAGENET.as_json()["fit"] == "short"


def test_sets_with_the_geometry_of_an_earlier_version_are_not_extended():
    earlier = IMAGENET.as_json()
    del earlier["fit"]
    origin = manifest({"transform": earlier}, {"dataset": "photos"}, {"name": "x"})
    with pytest.raises(Mismatch, match=r"photos was extracted by an old version.*--overwrite"):
        rebuild(origin)
    assert digest(earlier) != digest(IMAGENET.as_json())


def test_the_benchmark_detects_a_difference(script, pictures):
    transforms = script("transforms")
    values = config((3, 64, 64), 0.95)
    theirs, plain = (timm.data.create_transform(**values, normalize=way) for way in (True, False))
    preset = transforms.Preset("timm", "x", 1, timm_transform(values), theirs, plain)
    shown = {str(picture.size): picture for picture in pictures}
    row = transforms.compare(preset, shown)
    assert (row["images"], row["pixels"], row["normalised"]) == (len(pictures), 0, 0)
    assert not transforms.wrong(row)
    other = dataclasses.replace(preset.ours, resize=68)
    assert transforms.wrong(transforms.compare(preset._replace(ours=other), shown))
    other = dataclasses.replace(preset.ours, mean=(0.485, 0.456, 0.407))
    row = transforms.compare(preset._replace(ours=other), shown)
    assert row["pixels"] == 0 and transforms.wrong(row)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_batches_are_those_of_the_formula_to_the_last_bit(channels):
    pixels = np.arange(2 * 16 * 8 * channels).astype(np.uint8).reshape(2, 16, 8, channels)
    transform = Transform(
        channels, 16, 8, 0, (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    )
    mean, std = (np.float32(values) for values in (transform.mean, transform.std))
    expected = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    found = transform.normalise(pixels)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), expected)
