"""The folder of a trained network: a backbone, replaced as a whole, and checked when it is read."""

import contextlib
import os
import shutil

import numpy as np
import pytest
import torch
from test_training import plan

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.errors import CacheCorrupt, Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.trainer import TrainOptions, load_extractor
from featood.pipeline.training import train_extractor


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "net"
    train_extractor(plan(folder), TrainOptions(epochs=2, batch_size=64, lr=0.05))
    return folder


def test_the_folder_is_a_backbone(featood, tmp_path, whole):
    place = str(tmp_path / "cache")
    for backbone, name in ((str(whole), "net"), (f"{whole}#last", "net@last")):
        code, _, err = featood("extract", "--backbone", backbone, "--dataset", "digits", "--split", "test",
                               "--cache", place)  # fmt: skip
        assert code == 0, err
        rows = FeatureCache(place)[f"{name}/digits/test"]
        net, facts, _ = load_extractor(whole, last=name.endswith("last"))
        images = open_dataset("digits", "test")
        with torch.inference_mode():
            logits = net(facts.transform([images.read(row) for row in range(len(images))]))
        np.testing.assert_allclose(rows.logits[:], logits, rtol=1e-4, atol=1e-5)
        assert rows.classes == images.classes
    first = FeatureCache(place)["net/digits/test"].fingerprint
    assert first != FeatureCache(place)["net@last/digits/test"].fingerprint


def test_networks_of_several_seeds_have_names_of_their_own(tmp_path, whole):
    for place, name in (("a/seed-3", "a-seed-3"), ("b/seed-3", "b-seed-3"), ("net", "net")):
        shutil.copytree(whole, tmp_path / place)
        assert resolve_backbone(str(tmp_path / place)).slug == name
    assert resolve_backbone(f"{tmp_path}/a/seed-3#last").slug == "a-seed-3@last"


def test_a_folder_is_not_overwritten_silently(tmp_path, whole):
    with pytest.raises(UsageError, match="contains a trained network"):
        train_extractor(plan(whole))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(10))
def test_a_folder_is_overwritten_as_a_whole(tmp_path, whole, monkeypatch, step):
    from featood import files
    from featood.extractors.trainer import folder as module

    def kill(*paths):
        done.append(paths)
        if len(done) > step:
            raise Killed
        return move(*paths)

    old = load_extractor(whole)
    new = module.Trained(
        load_extractor(whole, last=True).net, dict(old.net.named_tensors()), {"loss": [1.0]}, {}
    )
    with torch.no_grad():
        new.net.last.bias += 1
    shutil.copytree(whole, tmp_path / "net")
    done, move = [], os.replace
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", kill)
        with pytest.raises(Killed) if step < 9 else contextlib.nullcontext():
            module.save_extractor(new, old.facts, tmp_path / "net")
    expected = (old.net, load_extractor(whole, last=True).net) if step < 5 else (new.net, old.net)
    for last, net in enumerate(expected):
        found = load_extractor(tmp_path / "net", bool(last)).net.named_tensors()
        assert all(torch.equal(found[name], value) for name, value in net.named_tensors().items())
    module.save_extractor(new, old.facts, tmp_path / "net")
    assert sorted(os.listdir(tmp_path / "net")) == sorted(os.listdir(whole))


def test_a_damaged_folder_is_named(tmp_path, whole):
    for name, text in (
        ("model.safetensors", "does not match its checksum; train"),
        ("extractor.json", "train it again"),
    ):
        folder = tmp_path / name
        shutil.copytree(whole, folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(CacheCorrupt, match=text):
            load_extractor(folder)


def test_a_folder_of_another_version_is_named(tmp_path, whole):
    from featood.sealed import read_json, write_json

    shutil.copytree(whole, tmp_path / "net")
    record = {name: value for name, value in read_json(whole / "extractor.json").items() if name != "sha256"}
    for change in ({"model": "later"}, {"options": {"later": 1}}, {"architecture": "later"}):
        write_json(tmp_path / "net" / "extractor.json", {**record, **change})
        with pytest.raises(Mismatch, match=r"written by a version of featood with other options.*later"):
            load_extractor(tmp_path / "net")
