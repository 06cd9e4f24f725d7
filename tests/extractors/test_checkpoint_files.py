import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from checkpoints import SAVERS, Bomb, equal, loaded, one_line
from torch import nn

from featood.errors import DataError
from featood.extractors.weights import load_weights, read_checkpoint
from featood.nets import create_net


@pytest.fixture
def net():
    return create_net("cifar-resnet20", 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def state(net):
    return net.state_dict()


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: OrderedDict(s),
        lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"lr": 0.1, "state": {}}},
        lambda s: {"model": s, "epoch": 3},
        lambda s: {"model_state_dict": s},
        lambda s: {"net": s, "acc": 93.0},
        lambda s: {"ema": s},
        lambda s: {"whatever": s, "loss": torch.tensor(0.3)},
        lambda s: {"model": {"state_dict": s, "name": "x"}},
        lambda s: {"module." + k: v for k, v in s.items()},
        lambda s: {"state_dict": {"_orig_mod.module." + k: v for k, v in s.items()}},
        lambda s: {"state_dict": {"module._orig_mod." + k: v for k, v in s.items()}},
        lambda s: {k.replace("layer1.", "layer1.module."): v for k, v in s.items()},
    ],
)
def test_finds_the_state_dict(tmp_path, state, save, wrap):
    save(wrap(state), tmp_path / "w.pt")
    assert equal(loaded(tmp_path / "w.pt")[0], state)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_safetensors_by_suffix_and_by_content(tmp_path, state, suffix):
    path = tmp_path / f"w{suffix}"
    safetensors.torch.save_file({"module." + k: v for k, v in state.items()}, path)
    assert equal(loaded(str(path))[0], state)


@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_malicious_pickle_is_never_executed(tmp_path, state, kind, suffix, nested):
    marker, path = tmp_path / "executed", tmp_path / f"w{suffix}"
    bomb = Bomb(marker)
    content = {"state_dict": {**state, "evil": bomb}} if nested else bomb
    pickle.loads(pickle.dumps(bomb))
    assert marker.is_dir()  # an ordinary unpickler executes it
    marker.rmdir()
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": {"evil": bomb}} if nested else bomb, protocol=2))
    else:
        SAVERS[kind](content, path)
    with pytest.raises(DataError) as error:
        read_checkpoint(path)
    assert str(path) in one_line(error)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, state, kind, share):
    path = tmp_path / "w.bin"
    if kind == "safetensors":
        safetensors.torch.save_file(dict(state), path)
    else:
        SAVERS[kind](state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"w\.bin") as error:
        read_checkpoint(path)
    one_line(error)


@pytest.mark.parametrize(
    "junk", [b"hello, world\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(99), b"{}", bytes(64), b"PK\x03\x04"]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files(tmp_path, junk, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(junk)
    with pytest.raises(DataError, match="not a readable file of weights") as error:
        read_checkpoint(path)
    one_line(error)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(DataError, match="no file of weights"):
            read_checkpoint(path)


def test_content_without_a_state_dict(tmp_path):
    loop = {"epoch": 1}
    loop["model"] = loop
    for content in (
        {},
        {"epoch": 3},
        [torch.ones(2)],
        torch.ones(2),
        {"state_dict": {"a": 1.0}},
        {1: torch.ones(2)},
        loop,
    ):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(DataError, match="no state dict"):
            read_checkpoint(tmp_path / "w.pt")


def test_entries(tmp_path, state):
    odd = tmp_path / "run#3.pt"
    torch.save({"a": state, "b": {k: v + 1 for k, v in state.items()}}, odd)
    assert equal(loaded(odd)[0], state)  # neither is an average: the first is used, with a note
    assert f"{odd}#b" in loaded(odd)[1][0]
    assert equal(loaded(f"{odd}#b")[0], {k: v + 1 for k, v in state.items()})
    with pytest.raises(DataError, match="no entry 'c'; it has a, b") as error:
        loaded(f"{odd}#c")
    one_line(error)


def plain_contents():
    import argparse
    import datetime
    import decimal
    import pathlib
    import types
    import uuid
    from collections import Counter, defaultdict, deque

    counts = defaultdict(list)
    counts["a"].append(1)
    return {
        "args": argparse.Namespace(
            lr=0.1, out=pathlib.Path("/x"), nested=argparse.Namespace(a=np.float32(1))
        ),
        "metric": np.float64(93.0),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "kind": np.dtype("float32"),
        "history": np.arange(6.0).reshape(2, 3),
        "text": np.array(["a", "b"]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "rng": np.random.RandomState(0).get_state(),
        "path": pathlib.PurePosixPath("a/b"),
        "when": [
            datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
            datetime.timedelta(3),
            datetime.date(2020, 1, 2),
        ],
        "set": {1, 2},
        "frozen": frozenset((1, 2)),
        "counts": counts,
        "last": deque([1, 2], maxlen=3),
        "tally": Counter("aab"),
        "space": types.SimpleNamespace(a=1),
        "id": uuid.UUID(int=3),
        "exact": decimal.Decimal("1.5"),
        "slice": slice(1, 2),
        "type": int,
    }


@pytest.mark.parametrize("name", plain_contents())
@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_plain_types_besides_the_weights(tmp_path, state, name, save):
    save({"state_dict": state, name: plain_contents()[name]}, tmp_path / "w.pt")
    before = sorted(map(str, torch.serialization.get_safe_globals()))
    assert equal(loaded(tmp_path / "w.pt")[0], state)
    assert sorted(map(str, torch.serialization.get_safe_globals())) == before


def test_a_training_checkpoint_of_timm(tmp_path, net):
    from argparse import Namespace

    from featood.extractors.vision import timm

    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.rand(2, 3, 16, 16)).sum().backward()
    optimizer.step()
    ema = timm.utils.ModelEmaV3(net)
    saver = timm.utils.CheckpointSaver(
        net, optimizer, Namespace(model="x", lr=0.1), ema, checkpoint_dir=str(tmp_path)
    )
    saver.save_checkpoint(3, np.float64(91.0))
    path = tmp_path / "last.pth.tar"
    assert equal(loaded(path)[0], ema.module.state_dict())
    assert equal(loaded(f"{path}#state_dict")[0], net.state_dict())


def test_weights_kept_as_arrays(tmp_path, state):
    arrays = {k: v.numpy() for k, v in state.items()}
    arrays["conv1.weight"] = arrays["conv1.weight"].astype(">f4")
    arrays["linear.weight"] = np.asfortranarray(arrays["linear.weight"])
    torch.save({"params": arrays}, tmp_path / "w.pt")
    assert equal(loaded(tmp_path / "w.pt")[0], state)


class Net(nn.Module):
    """A network pickled by ``torch.save(net)``."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)


def test_refusals_contain_a_command_that_converts_the_file(tmp_path):
    import shlex

    net = Net()
    torch.save({"model": net, "epoch": 3, "state_dict_ema": net.state_dict()}, tmp_path / "it's mine.pt")
    with pytest.raises(
        DataError, match=r"contains .*Net, whose code would have to run; if you trust"
    ) as error:
        read_checkpoint(tmp_path / "it's mine.pt")
    line = shlex.split(one_line(error).partition("convert it: ")[2])
    assert line[:2] == ["python", "-c"]
    done = subprocess.run([sys.executable, "-c", line[2]], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    other = Net()
    load_weights(other, f"{tmp_path}/it's mine.weights.pt#model")
    assert equal(other.state_dict(), net.state_dict())


def test_torchscript_and_later_protocols_are_refused_with_a_command(tmp_path, state):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "s.pt")
    with pytest.raises(DataError, match=r"TorchScript.*torch\.jit\.load") as error:
        read_checkpoint(tmp_path / "s.pt")
    one_line(error)
    torch.save(state, tmp_path / "p.pt", pickle_protocol=4)
    with pytest.raises(DataError, match=r"running code; if you trust.*torch\.load"):
        read_checkpoint(tmp_path / "p.pt")


def test_no_command_for_files_that_would_run_a_program(tmp_path):
    torch.save({"a": Bomb(tmp_path / "x")}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"would call posix\.mkdir") as error:
        read_checkpoint(tmp_path / "w.pt")
    assert "convert" not in one_line(error)


class Call:
    """Pickled as a call of a replaced name with given arguments."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_replacements_accept_any_arguments(tmp_path, state):
    import argparse
    import pathlib

    from numpy._core.multiarray import _reconstruct, scalar

    hostile = [
        Call(scalar, np.dtype("O"), b"12345678"),
        Call(scalar, np.dtype([("a", "f8"), ("b", "i4")]), b"123"),
        Call(_reconstruct, np.ndarray, (1 << 40,), b"O"),
        Call(pathlib.PosixPath, "/etc/passwd"),
        Call(argparse.Namespace),
        Call(np.dtype, "V" + "9" * 5),
    ]
    torch.save({"state_dict": state, "x": hostile}, tmp_path / "w.pt")
    assert equal(loaded(tmp_path / "w.pt")[0], state)


def test_entries_that_contain_each_other(tmp_path):
    content = {"a": torch.ones(1)}
    for _ in range(7):
        content = {str(n) + "x": content for n in range(20)}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match="more than"):
        read_checkpoint(tmp_path / "w.pt")


def in_shards(folder, state, suffix):
    import json

    save = safetensors.torch.save_file if suffix == "safetensors" else torch.save
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = sorted(state)
    files = [f"{stem}-0000{part + 1}-of-00002.{suffix}" for part in range(2)]
    for part, file in enumerate(files):
        save({name: state[name] for name in names[part::2]}, folder / file)
    places = {name: files[at % 2] for at, name in enumerate(names)}
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index, [folder / file for file in files]


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_and_folders(tmp_path, state, suffix):
    import zipfile

    index, files = in_shards(tmp_path, state, suffix)
    for path in (index, tmp_path, f"{tmp_path}/"):
        assert equal(loaded(path)[0], state)
    if suffix == "safetensors":
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for file in files:
                archive.write(file, file.name)
        assert equal(loaded(tmp_path / "all.zip")[0], state)
    files[1].unlink()
    with pytest.raises(DataError, match=f"lists {files[1].name}, which is not a file in its folder"):
        read_checkpoint(index)


def test_an_index_reads_only_its_folder(tmp_path, state):
    folder = tmp_path / "in"
    folder.mkdir()
    torch.save(state, tmp_path / "out.bin")
    for body in ('{"weight_map": {"a": "../out.bin"}}', '{"weight_map": 3}', "[]", "{", "[" * 100_000):
        (folder / "pytorch_model.bin.index.json").write_text(body)
        with pytest.raises(DataError) as error:
            read_checkpoint(folder)
        one_line(error)


def test_a_folder_with_several_files(tmp_path, state):
    torch.save(state, tmp_path / "last.pt")
    assert equal(loaded(tmp_path)[0], state)
    torch.save(state, tmp_path / "best.pt")
    with pytest.raises(DataError, match=r"give one of best\.pt, last\.pt"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"class_to_idx": {"dog": 1, "cat": 0}},
        {"classes": ["cat", "dog"]},
        {"meta": {"CLASSES": ("cat", "dog")}},
        {"class_names": np.array(["cat", "dog"])},
        {"config": {"id2label": {"0": "cat", "1": "dog"}}},
        {"idx_to_class": {np.int64(1): "dog", np.int64(0): "cat"}},
    ],
)
def test_names_of_classes(tmp_path, state, content):
    torch.save({"model": state, **content}, tmp_path / "w.pt")
    assert read_checkpoint(tmp_path / "w.pt").classes == ("cat", "dog")


def test_invalid_class_names(tmp_path, state):
    for content in (
        {"classes": 10},
        {"class_to_idx": {"a": 0, "b": 2}},
        {"classes": [1, 2]},
        {"classes": {}},
    ):
        torch.save({"model": state, **content}, tmp_path / "w.pt")
        assert read_checkpoint(tmp_path / "w.pt").classes == ()
