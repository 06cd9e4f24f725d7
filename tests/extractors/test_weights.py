import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from checkpoints import equal, loaded, one_line
from torch import nn

from featood.errors import DataError, Mismatch, UsageError
from featood.extractors import vision
from featood.extractors.weights import load_weights, weights_sha256
from featood.nets import create_net


@pytest.fixture
def net():
    return create_net("cifar-resnet20", 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def state(net):
    return net.state_dict()


def test_load_weights_round_trip(tmp_path, net):
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pt")
    other = create_net("cifar-resnet20", 10)
    assert weights_sha256(other) != weights_sha256(net)
    load_weights(other, tmp_path / "w.pt")
    assert equal(other.state_dict(), net.state_dict())
    assert weights_sha256(other) == weights_sha256(net)


def test_missing_batch_counters_become_zero(tmp_path, net, state):
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


def test_a_long_list_of_mismatches_is_shortened(tmp_path, net):
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
    with pytest.raises(DataError, match=r"layer2\.0\.conv1\.weight contains NaN or infinity"):
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


def test_vision_redefines_nothing_if_torchvision_works(tmp_path):
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
def test_the_error_of_a_missing_package_says_what_to_install(monkeypatch, name):
    monkeypatch.delitem(vars(vision), name, raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"pip install {name}$") as error:
        getattr(vision, name)
    one_line(error)


def test_vision_has_no_other_attributes():
    with pytest.raises(AttributeError):
        vision.tensorflow  # noqa: B018


def test_averages_are_preferred_as_in_timm_unless_overridden(tmp_path, state):
    from featood.extractors.vision import timm

    path = tmp_path / "w.pt"
    average = {"module." + k: v + 1 for k, v in state.items()}
    for raw, averaged in (("state_dict", "state_dict_ema"), ("model", "model_ema")):
        torch.save({"epoch": 1, raw: state, averaged: average}, path)
        assert equal(loaded(path)[0], timm.models.load_state_dict(path))
        assert loaded(path)[1] == (
            f"used the average under '{averaged}', not those under '{raw}' (use --weights {path}#{raw} for these)",
        )
        raw_only = loaded(f"{path}#{raw}")[0]
        assert equal(raw_only, state) and equal(raw_only, timm.models.load_state_dict(path, use_ema=False))
        assert equal(loaded(f"{path}#{averaged}.module")[0], {k: v + 1 for k, v in state.items()})


@pytest.mark.parametrize(
    "key", ["ema", "ema_state_dict", "swa_model", "averaged_model", "params_ema", "teacher"]
)
def test_averages_under_other_names(tmp_path, state, key):
    average = {k: v + 1 for k, v in state.items()}
    for content in (
        {"student": state, key: average},
        {
            "state_dict": {
                f"{name}.{k}": v for name, s in (("net", state), (key, average)) for k, v in s.items()
            }
        },
    ):
        torch.save(content, tmp_path / "w.pt")
        got, notes = loaded(tmp_path / "w.pt")
        assert equal(got, average) and "average" in notes[0] and "#" in notes[0]


def test_an_average_of_parameters_gets_the_statistics_of_the_network(tmp_path, net, state):
    average = {k: v + 1 for k, v in net.named_parameters()}
    torch.save({"model": state, "ema": average}, tmp_path / "w.pt")
    got, notes = loaded(tmp_path / "w.pt")
    assert equal(got, {**state, **{k: v.detach() for k, v in average.items()}})
    assert "running statistics" in " ".join(notes)
    average["linear.weight"] = torch.ones(3, 3)  # of another network
    torch.save({"model": state, "ema": average}, tmp_path / "w.pt")
    assert equal(loaded(tmp_path / "w.pt")[0], state)


def test_an_average_without_names_is_not_used_with_a_note(tmp_path, net, state):
    shadow = [p.detach() + 1 for p in net.parameters()]
    torch.save({"model": state, "ema": {"decay": 0.9, "shadow_params": shadow}}, tmp_path / "w.pt")
    got, notes = loaded(tmp_path / "w.pt")
    assert (
        equal(got, state) and "the average under 'ema' does not have the names of this network" in notes[-1]
    )


def test_averaged_model_of_swa(tmp_path, net):
    averaged = torch.optim.swa_utils.AveragedModel(net)
    averaged.update_parameters(net)
    for content in (averaged.state_dict(), {"model": net.state_dict(), "model_ema": averaged.state_dict()}):
        torch.save(content, tmp_path / "w.pt")
        assert equal(loaded(tmp_path / "w.pt")[0], averaged.module.state_dict())


PREFIXES = ("model.", "backbone.", "encoder.", "net.", "student.", "_orig_mod.", "module.model.", "a.b.c.d.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix(tmp_path, state, prefix):
    beside = {
        "loss.weight": torch.ones(3, 3),
        "n_averaged": torch.tensor(4),
        "projector.0.weight": torch.ones(2, 2),
    }
    torch.save({"state_dict": {**{prefix + k: v for k, v in state.items()}, **beside}}, tmp_path / "w.pt")
    got, notes = loaded(tmp_path / "w.pt")
    assert equal(got, state)
    assert "used the weights under 'state_dict." in notes[0] or prefix == "_orig_mod."
    for name in ("state_dict.loss", "state_dict.n_averaged", "state_dict.projector"):
        assert name in notes[1]


def test_counters_of_profilers_are_left_out(tmp_path, state):
    counts = {"total_ops": torch.zeros(1), "layer1.0.conv1.total_params": torch.zeros(1)}
    torch.save({**state, **counts}, tmp_path / "w.pt")
    assert equal(loaded(tmp_path / "w.pt")[0], state)


@pytest.mark.parametrize("extra", ["layer1.3.conv1.weight", "layer1.0.extra", "reg_token"])
def test_unknown_tensors_inside_the_network_are_a_mismatch(tmp_path, state, extra):
    torch.save({"model": {**state, extra: torch.ones(4, 4)}}, tmp_path / "w.pt")
    with pytest.raises(Mismatch, match=f"unexpected {extra}"):
        loaded(tmp_path / "w.pt")


def test_a_deeper_network_does_not_load_into_a_shallower_one(tmp_path, state):
    torch.save(create_net("cifar-resnet32", 10).state_dict(), tmp_path / "w.pt")
    with pytest.raises(Mismatch, match="unexpected layer1"):
        loaded(tmp_path / "w.pt")


def test_integer_weights_are_refused(tmp_path, state):
    torch.save({**state, "conv1.weight": state["conv1.weight"].to(torch.int8)}, tmp_path / "w.pt")
    with pytest.raises(Mismatch, match=r"conv1\.weight is int8, expected float32"):
        loaded(tmp_path / "w.pt")


def test_other_precisions(tmp_path, state):
    for kind, rounded in ((torch.float16, False), (torch.bfloat16, False), (torch.float64, True)):
        wanted = {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
        torch.save(wanted, tmp_path / "w.pt")
        got, notes = loaded(tmp_path / "w.pt")
        assert equal(got, {k: v.float() if v.is_floating_point() else v for k, v in wanted.items()})
        assert ("rounded to float32" in " ".join(notes)) is rounded


def test_a_tensor_that_declares_more_than_the_file_contains(tmp_path):
    net = nn.Linear(100_000, 100_000, device="meta")
    torch.save(
        {"weight": torch.zeros(1).expand(100_000, 100_000), "bias": torch.zeros(100_000)}, tmp_path / "w.pt"
    )
    with pytest.raises(DataError, match="weight declares more numbers"):
        load_weights(net, tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("kind", ["sparse", "meta", "quantised"])
def test_tensors_that_are_not_plain(tmp_path, kind):
    weight = torch.eye(3)
    weight = {"sparse": weight.to_sparse(), "meta": weight.to("meta"), "quantised": weight}[kind]
    if kind == "quantised":
        weight = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    torch.save({"weight": weight, "bias": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises((DataError, Mismatch)) as error:
        load_weights(nn.Linear(3, 3), tmp_path / "w.pt")
    one_line(error)
