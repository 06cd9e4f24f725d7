import dataclasses
import json

import numpy as np
import pytest
from manifests import manifest

from featood import FeatureSet
from featood.errors import UsageError
from featood.heads import create_head, head_class, list_heads
from featood.pipeline.presets import choose_preset, options_for_tables

PUBLISHED = {
    # the authors' configurations and scripts; those of ASH-S for CIFAR-100 serve ash-b and ash-p too
    "ash-b": {"cifar10": 0.95, "cifar100": 0.95},
    "ash-p": {"cifar10": 0.95, "cifar100": 0.95},
    "ash-s": {"cifar10": 0.95, "cifar100": 0.95, "imagenet": 0.9},
    "scale": {"cifar10": 0.95, "cifar100": 0.95, "imagenet": 0.85},
    "react": {"cifar10": 0.99, "cifar100": 0.99, "imagenet": 0.9},
    "dice": {"cifar10": 0.9, "cifar100": 0.9, "imagenet": 0.7},
}


def made(classes, side=None, width=512):
    recipe = {} if side is None else {"transform": {"height": side, "width": side}}
    logits = np.zeros((2, classes), np.float32)
    return FeatureSet({"avg": np.zeros((2, width), np.float32)}, logits=logits, origin=manifest(recipe))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    for preset, value in PUBLISHED[name].items():
        head = create_head(name, preset)
        assert value in (getattr(head, "percentile", None), getattr(head, "p", None))
    if name in ("ash-b", "ash-p", "ash-s", "scale"):  # the default is that of the authors' functions
        assert create_head(name).percentile == 0.65


@pytest.mark.parametrize(
    ("classes", "side", "expected"),
    [(10, 32, "cifar10"), (100, 32, "cifar100"), (200, 64, "cifar100"), (1000, 64, "cifar100"),
     (10, 224, "imagenet"), (1000, 224, "imagenet"), (1000, None, "imagenet"), (10, None, None)],
)  # fmt: skip
def test_settings_follow_the_size_of_the_images(classes, side, expected):
    preset, line = choose_preset("ash-s", made(classes, side))
    assert preset == expected
    assert "--preset" in line and "featood tune ash-s" in line
    assert (f"{side} pixels" in line) == (side is not None)
    if expected is None:
        assert "the defaults" in line and "imagenet" in line


def test_settings_stay_where_a_network_has_few_features():
    for side in (32, 224, None):
        preset, line = choose_preset("scale", made(10, side, width=64))
        assert preset is None and "has 64" in line and "featood tune scale" in line


def test_trained_heads_keep_their_defaults():
    preset, line = choose_preset("heat-gmm", made(10, 32))
    assert preset is None and "the defaults" in line and "--preset cifar10 or cifar100 or imagenet" in line


def test_columns_of_tables_are_standardised():
    rows = made(10, 32)
    table = dataclasses.replace(rows, origin=manifest({"table": {"columns": ["a"], "classes": ["x"]}}))
    assert options_for_tables("realnvp", table)[0] == {"space": "standardize"}
    assert "table" in options_for_tables("realnvp", table)[1]
    assert options_for_tables("natpn", table)[0] == {"space": "standardize", "depth": 3}
    assert options_for_tables("natpn", table, given=["space"])[0] == {"depth": 3}
    assert options_for_tables("natpn", table, "published")[0] == {"space": "standardize"}
    for name, data in (("realnvp", rows), ("mlp", table), ("knn", table), ("energy", table)):
        assert options_for_tables(name, data) == ({}, "")


def test_nothing_is_said_where_there_is_nothing_to_choose():
    assert choose_preset("energy", made(10, 32)) == (None, "")
    for name in list_heads():
        if not set(head_class(name).presets) & {"cifar10", "cifar100", "imagenet"}:
            assert choose_preset(name, made(10, 32)) == (None, "")


def test_the_command_line_says_and_keeps_what_it_chose(featood, toy_images, tmp_path):
    words = ("extract", "--backbone", "cifar-resnet18", "--weights", "random", "--image-size", 16)
    assert featood(*words, "--dataset", "toy")[0] == 0
    code, _, err = featood("fit", "react", "--out", tmp_path / "react")
    assert code == 0 and err.count("cifar10 preset, for a network for images of 16 pixels") == 1, err
    body = json.loads((tmp_path / "react" / "head.json").read_text())
    assert body["options"]["percentile"] == 0.99
    assert any("cifar10 preset" in note for note in body["meta"]["notes"])
    code, _, err = featood("fit", "react", "--preset", "imagenet", "--out", tmp_path / "other")
    assert code == 0 and "settings of" not in err
    assert json.loads((tmp_path / "other" / "head.json").read_text())["options"]["percentile"] == 0.9
    code, _, err = featood("score", "--head", "ash-b", "--ood", "odd")
    assert code == 0 and err.count("settings of ash-b: the cifar10 preset") == 1, err
    with pytest.raises(UsageError, match="no preset 'cifar'"):
        create_head("ash-b", "cifar")


def test_epochs_replace_updates():
    assert create_head("heat-gmm", "cifar10").updates > 0
    assert create_head("heat-gmm", "cifar10", epochs=3).updates == 0
    assert create_head("heat-gmm").updates > 0 and create_head("heat-gmm", epochs=3).updates == 0
    assert create_head("heat-gmm", "cifar10", epochs=3, updates=7).updates == 7
