import dataclasses
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from small_extraction import SMALL, run_small

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.recipe import choose_transform, rebuild
from featood.extractors.transform import IMAGENET, Transform


def test_columns_equal_a_plain_forward_pass(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    backbone = resolve_backbone("cifar-resnet20", "random", 3)
    features = run_small(
        FeatureCache(tmp_path / "c"), images, taps=("layer1",), pools=("avg", "std", "max"), dtype="float32"
    ).features
    maps = {}
    backbone.module.layer3.register_forward_hook(lambda m, i, o: maps.update(last=o))
    backbone.module.layer1.register_forward_hook(lambda m, i, o: maps.update(first=o))
    pixels = torch.from_numpy(images.array).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        logits = backbone.module((pixels - 0.5) / 0.25)
    assert np.allclose(features.logits[:], logits, atol=1e-4)
    flat = maps["last"].flatten(2).double()
    for name, expected in (("avg", flat.mean(2)), ("std", flat.std(2)), ("max", flat.amax(2))):
        assert np.allclose(features.features[name][:], expected, atol=1e-4), name
    assert np.allclose(features.features["layer1.avg"][:], maps["first"].mean((2, 3)), atol=1e-4)
    assert features.main == "avg"
    weight, bias = features.classifier
    assert np.allclose(features.features["avg"][:] @ weight.T + bias, features.logits[:], atol=1e-4)
    assert np.array_equal(features.labels[:], images.labels)


def test_stores_and_interruptions_do_not_change_a_bit(tmp_path, toy_images):
    images = open_dataset("toy", "train")
    whole = run_small(FeatureCache(tmp_path / "a"), images).features
    other = run_small(FeatureCache(tmp_path / "b"), images, store="hdf5").features
    assert whole.fingerprint == other.fingerprint

    class Stop(Exception):
        pass

    def stop(done, total):
        if done > 60:
            raise Stop

    backbone = resolve_backbone("cifar-resnet20", "random", 3)
    cache, options = FeatureCache(tmp_path / "c"), ExtractOptions(block_rows=32, batch_size=20)
    with pytest.raises(Stop):
        extract(backbone, images, SMALL, cache, options, progress=stop)
    with pytest.raises(CacheCorrupt, match="1 of 3 blocks"):
        cache["cifar-resnet20@random/toy/train"]
    resumed = extract(backbone, images, SMALL, cache, options)
    assert resumed.resumed_rows == 32
    for features in (other, resumed.features):
        for name in ("avg", "std"):
            assert features.features[name][:].tobytes() == whole.features[name][:].tobytes()
        assert features.logits[:].tobytes() == whole.logits[:].tobytes()


SCRIPT = """
    import sys, time
    from featood.cache import FeatureCache
    from featood.data import open_dataset
    from featood.extractors.backbones import resolve_backbone
    from featood.extractors.extract import ExtractOptions, extract
    from featood.extractors.transform import Transform
    import torch
    torch.set_num_threads(1)
    def report(done, total):
        print(done, flush=True)
        time.sleep(0.05)
    extract(resolve_backbone("cifar-resnet20", "random", 3), open_dataset("toy", "train", sys.argv[2]),
            Transform(3, 16, 16, 0, (0.5,), (0.25,)), FeatureCache(sys.argv[1]),
            ExtractOptions(block_rows=32, batch_size=20, store=sys.argv[3]), progress=report)
"""


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_a_killed_process_is_resumed_bit_identically(tmp_path, toy_images, store):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "k"), str(toy_images), store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:  # type: ignore[union-attr]
            if int(line) >= 84:  # the first block is written, and perhaps the second, by a thread
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    images = open_dataset("toy", "train")
    whole = run_small(FeatureCache(tmp_path / "a"), images).features
    resumed = run_small(FeatureCache(tmp_path / "k"), images, store=store)
    assert resumed.resumed_rows in (32, 64)
    assert resumed.features.features["avg"][:].tobytes() == whole.features["avg"][:].tobytes()


def test_everything_that_changes_values_changes_the_fingerprint(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    cache = FeatureCache(tmp_path / "c")
    first = run_small(cache, images).features.fingerprint
    assert run_small(cache, images).features.fingerprint == first
    for change in ({"dtype": "float32"}, {"taps": ("layer1",)}, {"precision": "bfloat16"}):
        with pytest.raises(Mismatch):
            run_small(cache, images, **change)
        assert run_small(FeatureCache(tmp_path / str(change)), images, **change).features.fingerprint != first
    with pytest.raises(Mismatch, match="inputs_sha256"):
        run_small(cache, images.subset(np.arange(60)[::-1]))


def make_folder(path):
    rng = np.random.default_rng(1)
    path.mkdir(parents=True)
    for row in range(10):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path / f"{row}.png")
    content = (path / "3.png").read_bytes()
    (path / "3.png").write_bytes(content[: len(content) // 2])


def test_corrupt_images_are_counted_listed_and_left_out(tmp_path):
    make_folder(tmp_path / "photos")
    images = open_dataset(tmp_path / "photos")
    done = run_small(FeatureCache(tmp_path / "c"), images, workers=1)
    assert len(done.failed) == 1
    assert "3.png" in done.failed[0]
    assert len(done.features) == 9
    assert "3.png" not in list(done.features.ids[:])
    with pytest.raises(DataError, match=r"3\.png"):
        run_small(FeatureCache(tmp_path / "d"), images, strict=True)


def test_a_manifest_rebuilds_the_backbone_and_detects_other_weights(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    backbone = resolve_backbone("cifar-resnet20", "random", 10, seed=7)
    run = {"seed": 7, "weights_file": "random"}
    features = extract(backbone, images, SMALL, FeatureCache(tmp_path / "c"), ExtractOptions(), run).features
    again, transform, options = rebuild(features.origin)
    assert (again.sha256, transform, options.pools) == (backbone.sha256, SMALL, None)
    origin = dataclasses.replace(features.origin, run={**features.origin.run, "seed": 8})
    with pytest.raises(Mismatch, match="no longer has the weights"):
        rebuild(origin)


def test_python_backbones_and_their_errors(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "import torch.nn as nn\n"
        "def make(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
        "def broken(): raise RuntimeError('no weights')\n"
        "def number(): return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    backbone = resolve_backbone("python:my_net:make")
    assert backbone.slug == "my_net.make" and backbone.channels == 3
    with pytest.raises(DataError, match="no weights"):
        resolve_backbone("python:my_net:broken")
    for name, text in (
        ("python:my_net:number", "int"),
        ("python:nope:make", "imported"),
        ("python:my_net", "form"),
    ):
        with pytest.raises(UsageError, match=text):
            resolve_backbone(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cifar-resnet21", "cifar-resnet20"), ("resnet51", "resnet5"), ("tv:resnet51", "resnet5")],
)
def test_an_unknown_backbone_gets_suggestions(name, hint):
    with pytest.raises(UsageError, match=hint):
        resolve_backbone(name)


def test_random_weights_are_the_same_for_a_seed():
    first = resolve_backbone("cifar-resnet20", "random", 3)
    assert first.slug == "cifar-resnet20@random"
    assert first.sha256 == resolve_backbone("cifar-resnet20", "random", 3).sha256
    assert first.sha256 != resolve_backbone("cifar-resnet20", "random", 3, seed=1).sha256
    state = torch.random.get_rng_state()
    resolve_backbone("tv:resnet18", "random")
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_transform_matches_torchvision():
    from featood.extractors.vision import torchvision

    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (301, 283, 3), dtype=np.uint8)
    preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    expected = preset(Image.fromarray(image))
    assert torch.allclose(IMAGENET([image])[0], expected, atol=1e-5)


def test_the_transform_converts_grey_and_colour():
    grey = np.full((20, 10), 128, np.uint8)
    assert SMALL([grey]).shape == (1, 3, 16, 16)
    one = Transform(1, 28, 28, 0, (0.0,), (1.0,))
    assert torch.allclose(one([np.full((9, 9, 3), 255, np.uint8)]), torch.ones(1, 1, 28, 28))
    for bad in ({"mean": (0.1, 0.2)}, {"std": (0.0,)}, {"interpolation": "magic"}):
        with pytest.raises(UsageError):
            Transform(**{**SMALL.as_json(), **bad})


def test_origin_of_the_transform(toy_images):
    from featood.data import packed_set

    cifar = packed_set(np.zeros((2, 32, 32, 3), np.uint8), name="cifar10")
    net = resolve_backbone("cifar-resnet20", "random")
    transform, origin = choose_transform(net, cifar)
    assert (transform.mean, transform.height, origin) == ((0.4914, 0.4822, 0.4465), 32, "cifar10")
    transform, origin = choose_transform(net, cifar, (0.0,), (1.0,), 24)
    assert (transform.mean, transform.height) == ((0.0,) * 3, 24) and "your changes" in origin
    transform, _ = choose_transform(resolve_backbone("lenet", "random"), cifar)
    assert transform.channels == 1 and transform.mean == pytest.approx((np.mean((0.4914, 0.4822, 0.4465)),))
    transform, origin = choose_transform(resolve_backbone("tv:resnet50", "random"), cifar)
    assert (transform.resize, transform.height) == (256, 224) and "IMAGENET1K_V1" in origin
    resnet = resolve_backbone("tv:resnet50", "random")
    transform, origin = choose_transform(resnet, cifar, image_size=64, resize=80)
    assert (transform.resize, transform.height) == (80, 64) and "your changes" in origin
    with pytest.raises(UsageError, match="--resize 200 is smaller than the crop of 224 x 224 pixels"):
        choose_transform(resnet, cifar, resize=200)


def test_accuracy_of_published_weights(tmp_path, test_data):
    images = open_dataset("cifar10", "test", test_data).subset(np.arange(400))
    backbone = resolve_backbone("cifar-resnet20", str(test_data / "weights" / "resnet20-12fca82f.th"))
    transform, _ = choose_transform(backbone, images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    features = extract(backbone, images, transform, FeatureCache(tmp_path / "c")).features
    accuracy = (features.logits[:].argmax(1) == features.labels[:]).mean()
    assert accuracy == 378 / 400  # 9,173 of all 10,000 images, the published figure


def test_features_are_stored_in_half_precision_but_not_logits_and_sums(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    half, whole = (
        run_small(FeatureCache(tmp_path / name), images, pools=("avg", "std", "gram"), **how).features
        for name, how in (("half", {}), ("whole", {"dtype": "float32"}))
    )
    types = {name: str(values.dtype) for name, values in half.features.items()}
    assert types == {"avg": "float16", "std": "float16", "gram": "float32"}
    assert half.logits.dtype == np.float32
    np.testing.assert_array_equal(half.logits[:], whole.logits[:])
    np.testing.assert_array_equal(half.feature()[:], whole.feature()[:].astype(np.float16))
