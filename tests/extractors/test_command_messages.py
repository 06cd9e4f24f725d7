"""Messages of the command line about how sets, weights and labels are interpreted."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from brightness import brightness_net, write_images
from PIL import Image


@pytest.fixture
def insects(tmp_path):
    for split in ("train", "test"):
        for name, level in (("ant", 40), ("bee", 120), ("cat", 210)):
            write_images(tmp_path / "data" / "insects" / split / name, level, 30, seed=split == "test")
    return tmp_path / "data"


def accuracy(out):
    return [float(found) for found in re.findall(r"accuracy ([0-9.]+)", out)]


def test_numbered_folders_are_sorted_numerically(tmp_path, featood):
    levels = [10 + 20 * number for number in range(12)]
    for number, level in enumerate(levels):
        write_images(tmp_path / "data" / "numbers" / "test" / str(number), level, 8)
    words = (
        "extract",
        *brightness_net(tmp_path, levels),
        "--data-dir",
        tmp_path / "data",
        "--dataset",
        "numbers",
    )
    code, out, err = featood(*words)
    assert code == 0 and "indices follow the numbers" in err, err
    right = accuracy(out)[0]
    assert right > 0.5
    order = tmp_path / "order.txt"
    order.write_text("\n".join(sorted(map(str, range(12)))))
    code, out, err = featood(*words, "--class-order", order, "--overwrite")
    assert code == 0 and accuracy(out)[0] < 0.4
    assert "the labels follow" in err and "--class-order" in err


def test_mismatched_labels_cause_warnings_in_extract_and_score(tmp_path, featood, insects):
    order = tmp_path / "order.json"
    order.write_text(json.dumps(["cat", "ant", "bee"]))
    words = (
        "extract",
        *brightness_net(tmp_path, [40, 120, 210]),
        "--data-dir",
        insects,
        "--dataset",
        "insects",
    )
    code, out, err = featood(*words)
    assert code == 0 and min(accuracy(out)) > 0.9 and "warning" not in err
    code, out, err = featood(*words, "--class-order", order, "--overwrite")
    assert code == 0 and max(accuracy(out)) < 0.1
    assert err.count("warning: nets.make/insects") == 2
    named = ("--code", f"python:{tmp_path / 'nets.py'}:make")
    code, out, err = featood("score", "--head", "msp", "--ood", "noise:uniform,n=20", "--json", "-", *named)
    assert code == 0 and "--class-order" in json.loads(out)["warnings"][0]


def test_only_a_changed_folder_is_extracted_again(tmp_path, featood, insects, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--data-dir", insects, "--dataset", "insects")
    assert featood("extract", *brightness_net(tmp_path, [40, 120, 210]), *words)[0] == 0
    write_images(tmp_path / "data" / "mywild" / "test", 250, 20)
    write_images(tmp_path / "far", 5, 20)
    named = f"python:{tmp_path / 'nets.py'}:make"
    score = ("score", "--head", "energy", "--json", "-", "--code", named, "--ood")

    def auroc(name):
        code, out, err = featood(*score, name)
        assert code == 0, err
        return json.loads(out)["rows"][0]["auroc"], err

    first, err = auroc("mywild")
    assert "not in the cache" in err
    assert auroc("mywild")[0] == first and "extract" not in auroc("mywild")[1]
    for path in (tmp_path / "data" / "mywild" / "test").iterdir():  # the same images, copied again
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert auroc("mywild")[0] == first and "extract" not in auroc("mywild")[1]
    shutil.rmtree(tmp_path / "data" / "mywild")
    write_images(tmp_path / "data" / "mywild" / "test", 40, 20)
    second, err = auroc("mywild")
    assert "images that have changed" in err and second != first
    assert "extract" not in auroc("mywild")[1]
    shutil.rmtree(tmp_path / "data" / "mywild")  # a set in the cache is usable without its images
    assert auroc("mywild")[0] == second
    assert "not in the cache" in auroc("./far")[1]
    for name in ("./far", "./far/", str(tmp_path / "far")):
        assert "extract" not in auroc(name)[1], name


def test_files_left_out_are_counted_in_extract_and_score(tmp_path, featood, insects, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--data-dir", insects, "--dataset", "insects")
    assert featood("extract", *brightness_net(tmp_path, [40, 120, 210]), *words)[0] == 0
    write_images(tmp_path / "wild", 90, 10)
    (tmp_path / "wild" / "003.png").write_bytes(b"no image")
    (tmp_path / "wild" / "004.png").rename(tmp_path / "wild" / "004.jxl")
    (tmp_path / "wild" / "notes.txt").write_text("seen on a walk")
    named = ("--code", f"python:{tmp_path / 'nets.py'}:make")
    code, out, err = featood("score", "--head", "msp", "--ood", "./wild", "--json", "-", *named)
    assert code == 0
    assert "1 images could not be read" in err and "003.png" in err and ".jxl" in err
    row = json.loads(out)["rows"][0]
    assert row["n_ood"] == 8
    assert any("1 of 9 images of ./wild" in warning for warning in json.loads(out)["warnings"])
    code, out, err = featood("score", "--head", "msp", "--ood", "./wild", "--json", "-")  # and from the cache
    assert any("1 of 9 images of ./wild" in warning for warning in json.loads(out)["warnings"])


def test_a_subset_of_imagenet_has_the_class_numbers_of_imagenet(tmp_path, featood):
    from featood.extractors.vision import torchvision

    wnids = ("n01440764", "n02102040", "n03445777")  # tench, English springer, golf ball: 0, 217, 574
    for place, wnid in enumerate(wnids):
        write_images(tmp_path / "data" / "few" / "val" / wnid, 50 + 60 * place, 3, 40)
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "r18.pth")
    words = ("--weights", tmp_path / "r18.pth", "--image-size", "40", "--data-dir", tmp_path / "data")
    code, _, err = featood("extract", "--backbone", "tv:resnet18", "--dataset", "few", *words)
    assert code == 0 and "numbered as the 1000" in err, err
    from featood.cache import open_cache

    (entry,) = open_cache(tmp_path / "cache").entries()
    features = open_cache(tmp_path / "cache")[entry.key]
    assert sorted(set(features.labels[:].tolist())) == [0, 217, 574]
    assert features.classes[217].startswith("n02102040 English springer")


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
def test_outputs_that_are_not_classes_are_refused_if_classes_are_needed(tmp_path, featood, insects, kind):
    width = {"regression": 1, "multi-label": 3}[kind]
    file = tmp_path / "nets.py"
    file.write_text(
        "import torch.nn as nn\n"
        "def make():\n"
        f"    end = nn.Linear(4, {width})\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), end)\n"
    )
    words = ("--dataset", "insects", "--data-dir", insects, "--image-size", "16")
    asked = ("--outputs", kind) if kind == "multi-label" else ()
    code, out, err = featood("extract", "--backbone", f"python:{file}:make", *words, *asked)
    assert code == 0 and kind in err and "logits" not in out, err
    code, _, err = featood(
        "score", "--head", "msp", "--ood", "noise:uniform,n=20", "--code", f"python:{file}:make"
    )
    assert code == 3 and kind in err and "needs logits" in err
    assert featood("fit", "mahalanobis")[0] == 0


def test_random_weights_are_used_only_on_request(tmp_path, featood, insects):
    code, _, err = featood(
        "extract", "--backbone", "cifar-resnet20", "--data-dir", insects, "--dataset", "insects"
    )
    assert code == 2 and "--weights random" in err
    assert featood("cache", "ls", "--json")[1].strip() == "[]"


def test_bits_and_orientation_are_options_and_recorded(tmp_path, featood):
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "deep" / "test"
    folder.mkdir(parents=True)
    for row in range(6):
        values = rng.integers(0, 4096, (16, 16)).astype(np.uint16)
        values[0, 0] = 4095
        Image.fromarray(values).save(folder / f"{row}.png")
    words = (
        "--backbone",
        "mnist-convnet",
        "--weights",
        "random",
        "--data-dir",
        tmp_path / "data",
        "--dataset",
        "deep",
    )
    code, _, err = featood("extract", *words)
    assert code == 0 and "only 12 bits" in err and "--bits 12" in err
    code, _, err = featood("extract", *words)
    assert code == 0
    code, _, err = featood("extract", *words, "--bits", "12", "--no-exif")
    assert code == 5 and "inputs_sha256" in err
    code, _, err = featood("extract", *words, "--bits", "12", "--no-exif", "--overwrite")
    assert code == 0 and "only 12 bits" not in err
    from featood.cache import open_cache

    (entry,) = open_cache(tmp_path / "cache").entries()
    assert entry.manifest.run["decoding"] == {"bits": 12, "upright": False}


@pytest.mark.parametrize(
    ("option", "value"), [("--mean", "123.7,116.3,103.5"), ("--std", "58.4"), ("--mean", "-0.5")]
)
def test_mean_and_std_of_pixels_up_to_255_are_refused(tmp_path, featood, insects, option, value):
    words = (
        "--backbone",
        "cifar-resnet20",
        "--weights",
        "random",
        "--data-dir",
        insects,
        "--dataset",
        "insects",
    )
    code, _, err = featood("extract", *words, option, value)
    assert code == 2 and "divide" in err
