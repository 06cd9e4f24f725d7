import hashlib
import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from featood.errors import DataError, Mismatch, UsageError
from featood.extractors import vision
from featood.extractors.weights import load_weights, weights_sha256
from featood.extractors.weights import read_checkpoint as read_checkpoint
from featood.nets import create_net


class Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def net():
    return create_net("cifar-resnet20", 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def state(net):
    return net.state_dict()


SAVERS = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}


def loaded(path, classes=10):
    """The weights that a file gives a fresh network, and what was said."""
    other = create_net("cifar-resnet20", classes)
    notes = load_weights(other, path)
    return other.state_dict(), notes


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
    assert marker.is_dir()  # it does go off in a plain unpickler
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


def test_load_weights_round_trip(tmp_path, net):
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pt")
    other = create_net("cifar-resnet20", 10)
    assert weights_sha256(other) != weights_sha256(net)
    load_weights(other, tmp_path / "w.pt")
    assert equal(other.state_dict(), net.state_dict())
    assert weights_sha256(other) == weights_sha256(net)


def test_batch_counters_may_be_absent_and_become_zero(tmp_path, net, state):
    torch.save({k: v for k, v in state.items() if "num_batches_tracked" not in k}, tmp_path / "w.pt")
    other = create_net("cifar-resnet20", 10)
    other.bn1.num_batches_tracked += 7
    load_weights(other, tmp_path / "w.pt")
    assert weights_sha256(other) == weights_sha256(net)


def test_mismatches_are_listed_and_nothing_is_loaded(tmp_path, net, state):
    wrong = dict(state)
    wrong["fc.weight"] = wrong.pop("linear.weight")
    wrong["linear.bias"] = torch.zeros(100)
    torch.save(wrong, tmp_path / "w.pt")
    before = weights_sha256(net)
    with pytest.raises(Mismatch) as error:
        load_weights(net, tmp_path / "w.pt")
    text = one_line(error)
    assert "missing linear.weight" in text and "unexpected fc.weight" in text
    assert "linear.bias is 100, expected 10" in text and "more" not in text
    assert str(tmp_path / "w.pt") in text and "CifarResNet" in text
    assert weights_sha256(net) == before
    assert error.value.exit_code == 5


def test_a_long_list_of_mismatches_is_cut(tmp_path, net):
    torch.save({f"extra{i}": torch.ones(1) for i in range(20)}, tmp_path / "w.pt")
    count = sum("num_batches_tracked" not in name for name in net.state_dict()) + 20
    with pytest.raises(Mismatch, match=f"and {count - 8} more$") as error:
        load_weights(net, tmp_path / "w.pt")
    assert one_line(error).count("missing") == 8


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(tmp_path, net, state, value):
    state = {k: v.clone() for k, v in state.items()}
    state["layer2.0.conv1.weight"][1, 2, 0, 0] = value
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"layer2\.0\.conv1\.weight holds NaN or infinity"):
        load_weights(net, tmp_path / "w.pt")


class Holder(nn.Module):
    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


def test_hash_against_numpy():
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(4, dtype=np.int64)
    want = hashlib.sha256()
    want.update(b"a\0torch.float32\0(2, 3)\0" + a.tobytes())
    want.update(b"b\0torch.int64\0()\0" + b.tobytes())
    assert weights_sha256(Holder(b=torch.from_numpy(b), a=torch.from_numpy(a))) == want.hexdigest()


def test_hash_depends_on_content_only():
    x = torch.arange(6.0)
    reference = weights_sha256(Holder(a=x, b=torch.zeros(2)))
    assert weights_sha256(Holder(b=torch.zeros(2), a=x.clone())) == reference
    strided = torch.stack([x, x], dim=1)[:, 0]
    assert not strided.is_contiguous()
    assert weights_sha256(Holder(a=strided, b=torch.zeros(2))) == reference
    nudged = x.clone()
    nudged[3] = torch.nextafter(nudged[3], torch.tensor(9.0))
    others = [
        Holder(a=nudged, b=torch.zeros(2)),
        Holder(a=x.view(2, 3), b=torch.zeros(2)),
        Holder(a=x.view(torch.int32), b=torch.zeros(2)),
        Holder(a=x, c=torch.zeros(2)),
        Holder(a=x, b=-torch.zeros(2)),
        Holder(a=x, b=torch.zeros(2), c=torch.zeros(0)),
    ]
    assert len({reference, *map(weights_sha256, others)}) == len(others) + 1


def test_hash_of_half_precision_and_booleans():
    ones = [torch.ones(3, dtype=d) for d in (torch.bfloat16, torch.float16, torch.bool, torch.uint8)]
    assert len({weights_sha256(Holder(a=x)) for x in ones}) == 4


def run_python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )


def test_vision_imports_lazily_and_works_in_a_fresh_process():
    done = run_python(
        "import sys\n"
        "from featood.extractors import vision\n"
        "assert 'torchvision' not in sys.modules and 'timm' not in sys.modules\n"
        "from featood.extractors.vision import timm, torchvision\n"
        "assert torchvision is sys.modules['torchvision'] and timm is sys.modules['timm']\n"
        "assert vision.timm is timm\n"
        "import torch\n"
        "net = torchvision.models.squeezenet1_1(num_classes=3).eval()\n"
        "assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 3)\n"
        "assert timm.create_model('test_resnet', pretrained=False) is not None\n"
    )
    assert done.returncode == 0, done.stderr


def test_vision_redefines_nothing_where_torchvision_is_healthy(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import torch\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    )
    done = run_python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from featood.extractors import vision\n"
        f"assert vision.torchvision.__file__.startswith({str(tmp_path)!r})\n"
        "assert vision._libraries == []\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_missing_package_says_what_to_install(monkeypatch, name):
    monkeypatch.delitem(vars(vision), name, raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"pip install {name}$") as error:
        getattr(vision, name)
    one_line(error)


def test_vision_has_nothing_else():
    with pytest.raises(AttributeError):
        vision.tensorflow  # noqa: B018
