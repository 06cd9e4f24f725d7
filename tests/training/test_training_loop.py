import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from featood.errors import CacheCorrupt, DataError, Mismatch
from featood.training import Batches, cosine, multi_step, train, warm_up

TARGET = torch.tensor([1.0, -2.0, 3.0])


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros(1))


def distance(point):
    return lambda number: {"loss": (point.x - TARGET).square().sum()}


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)


# ---- updates ---------------------------------------------------------------------------------


def test_follows_gradient_descent_by_hand():
    point = Point()
    seen = []
    result = train(
        distance(point),
        point,
        sgd(point),
        5,
        schedule=multi_step([3]),
        progress=lambda step, total, **values: seen.append((step, total, values["loss"])),
    )
    x, velocity, losses = np.zeros(3), np.zeros(3), []
    for step in range(5):
        losses.append(float(((x - TARGET.numpy()) ** 2).sum()))
        velocity = 0.5 * velocity + 2 * (x - TARGET.numpy())
        x = x - (0.1 if step < 3 else 0.01) * velocity
    np.testing.assert_allclose(point.x.detach(), x, rtol=1e-5)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-5)
    assert [entry[:2] for entry in seen] == [(step, 5) for step in range(1, 6)]
    assert result.steps == 5 and not result.diverged


def test_gradients_of_accumulated_batches_are_averaged():
    targets = torch.arange(12.0).reshape(4, 3)
    whole, parts = Point(), Point()
    train(lambda n: {"loss": (whole.x - targets[2 * n : 2 * n + 2]).square().mean()}, whole, sgd(whole), 2)
    numbers = []

    def one(number):
        numbers.append(number)
        return {"loss": (parts.x - targets[number]).square().mean(), "number": torch.tensor(float(number))}

    result = train(one, parts, sgd(parts), 2, accumulate=2)
    torch.testing.assert_close(parts.x, whole.x)
    assert numbers == [0, 1, 2, 3]
    assert result.history["number"] == [0.5, 2.5]


def test_the_gradient_is_clipped():
    point = Point()
    train(distance(point), point, torch.optim.SGD(point.parameters(), lr=1.0), 1, clip=0.5)
    torch.testing.assert_close(point.x.detach(), 0.5 * TARGET / TARGET.norm())


def test_schedules():
    assert [multi_step([2, 4])(step) for step in range(5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert cosine(10, 0.2)(0) == 1 and cosine(10, 0.2)(10) == cosine(10, 0.2)(99) == pytest.approx(0.2)
    assert cosine(8)(2) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    ramp = warm_up(4, multi_step([5]))
    assert [ramp(step) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.1])


def test_batches():
    batches = Batches(rows=10, size=3, seed=5)
    assert len(batches) == 3
    epochs = [torch.cat([batches(3 * epoch + part) for part in range(3)]) for epoch in range(2)]
    for rows in epochs:
        assert len(set(rows.tolist())) == 9 and set(rows.tolist()) <= set(range(10))
    assert not torch.equal(*epochs)
    assert torch.equal(Batches(10, 3, 5)(4), batches(4)), "a batch depends only on its number"
    assert not torch.equal(Batches(10, 3, 6)(4), batches(4))
    assert Batches(2, 100)(7).sort().values.tolist() == [0, 1]
    with pytest.raises(DataError, match="no rows"):
        Batches(0, 3)


# ---- resuming ---------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def network_training(folder=None, stop=None, settings=None, every=4):
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    data = torch.randn(40, 4, generator=generator)
    batches = Batches(40, 8, seed=1)

    def losses(number):
        rows = data[batches(number)]
        noisy = rows + 0.1 * torch.randn(rows.shape, generator=generator)
        return {"loss": (model(noisy).squeeze(1) - rows.prod(1)).square().mean(), "size": rows.norm()}

    def progress(step, total, **values):
        if step == stop:
            raise Killed

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    result = train(
        losses,
        model,
        optimizer,
        23,
        schedule=cosine(23),
        generators=[generator],
        progress=progress,
        checkpoint=folder,
        settings=settings,
        every=every,
    )
    return model.state_dict(), optimizer.state_dict()["state"], result, generator.get_state()


def assert_same(found, expected):
    for name, value in expected[0].items():
        assert torch.equal(found[0][name], value), name
    for index, values in expected[1].items():
        for name, value in values.items():
            assert torch.equal(found[1][index][name], value), (index, name)
    assert found[2] == expected[2]
    assert torch.equal(found[3], expected[3])


@pytest.mark.parametrize("stops", [[1], [4], [11], [22], [6, 7, 15, 20]], ids=str)
def test_an_interrupted_training_is_bit_identical(tmp_path, stops):
    expected = network_training()
    folder = tmp_path / "training"
    for stop in stops:
        with pytest.raises(Killed):
            network_training(folder, stop)
        assert (folder / "checkpoint.json").is_file()
    assert_same(network_training(folder), expected)
    assert not folder.exists(), "the folder is removed when training ends"


def test_a_checkpoint_is_valid_until_the_next_one_is_complete(tmp_path):
    with pytest.raises(Killed):
        network_training(tmp_path, 10)
    (tmp_path / "step-12.safetensors").write_bytes(b"half writ")
    (tmp_path / "step-12.safetensors.0123456789ab.tmp").write_bytes(b"ha")
    assert_same(network_training(tmp_path), network_training())
    assert not tmp_path.exists()


def test_the_checkpoint_of_another_training_is_refused(tmp_path):
    with pytest.raises(Killed):
        network_training(tmp_path, 10, settings={"lr": 0.01, "layers": (1, 2)})
    with pytest.raises(Mismatch, match=r"other settings \(lr\)"):
        network_training(tmp_path, settings={"lr": 0.02, "layers": (1, 2)})
    network_training(tmp_path, settings={"lr": 0.01, "layers": (1, 2)})


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "record"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    with pytest.raises(Killed):
        network_training(tmp_path, 10)
    (tensors,) = tmp_path.glob("*.safetensors")
    content = tensors.read_bytes()
    if damage == "flip":
        tensors.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif damage == "cut":
        tensors.write_bytes(content[:100])
    elif damage == "missing":
        tensors.unlink()
    else:
        record = json.loads((tmp_path / "checkpoint.json").read_text())
        (tmp_path / "checkpoint.json").write_text(json.dumps({**record, "step": 9}))
    with pytest.raises(CacheCorrupt, match="delete the folder"):
        network_training(tmp_path)


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = network_training()
    torch.manual_seed(1)
    assert_same(network_training(), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before)


# ---- divergence -------------------------------------------------------------------------------------


def test_divergence_restores_the_last_good_state(tmp_path):
    def run(steps, poison):
        point = Point()

        def losses(number):
            loss = (point.x - TARGET).square().sum()
            return {"loss": loss * math.nan if number == poison else loss}

        return point, train(losses, point, sgd(point), steps, every=4, checkpoint=tmp_path)

    with pytest.warns(UserWarning, match=r"diverged at step 11 of 20 .* after step 8 is used"):
        point, result = run(20, 10)
    assert result.diverged and result.steps == 8 and math.isnan(result.losses[-1])
    assert torch.equal(point.x, run(8, None)[0].x)


def test_an_exploding_loss_counts_as_divergence():
    point = Point()
    with pytest.warns(UserWarning, match="lower the learning rate"):
        result = train(distance(point), point, sgd(point, lr=100.0), 50, every=1000)
    assert result.diverged and result.steps == 0
    assert point.x.tolist() == [0, 0, 0]
    assert max(result.losses[:-1]) < 1e4 * 14 < result.losses[-1]


def test_parameters_that_are_not_finite_at_the_end_count_as_divergence():
    point = Point()

    def losses(number):
        return {"loss": torch.sqrt(point.x).sum() if number == 2 else point.x.sum()}

    with torch.no_grad():
        point.x.fill_(1.0)
    # reaches 0, where the gradient of the square root is infinite
    optimizer = torch.optim.SGD(point.parameters(), lr=0.5)
    with pytest.warns(UserWarning, match="diverged"):
        result = train(losses, point, optimizer, 3, every=1)
    assert result.diverged and result.steps == 2
    assert point.x.tolist() == [0, 0, 0]


def test_a_first_loss_that_is_not_finite_does_not_change_the_model():
    point = Point()
    with pytest.warns(UserWarning, match="step 1 of 3"):
        result = train(lambda number: {"loss": point.x.sum() * math.inf}, point, sgd(point), 3)
    assert result.diverged and result.steps == 0 and point.x.tolist() == [0, 0, 0]


def test_the_validated_average_is_returned():
    point = Point()
    model_is = []

    def validate():
        model_is.append(point.x.detach().clone())
        return -len(model_is)  # the last is the best

    raw = Point()
    train(distance(raw), raw, sgd(raw), 8)
    result = train(distance(point), point, sgd(point), 8, average=0.9, validate=validate, every=3)
    assert result.steps == 8 and len(model_is) == 4
    torch.testing.assert_close(point.x.detach(), model_is[-1])
    assert (point.x - raw.x).abs().max() > 0.01


def test_a_validation_loss_that_is_always_nan_is_reported():
    point = Point()
    with pytest.warns(UserWarning, match="always NaN: the state after step 9 of 50"):
        result = train(distance(point), point, sgd(point), 50, validate=lambda: math.nan, patience=3, every=3)
    assert result.steps == 9 and not result.diverged and len(result.losses) == 9
