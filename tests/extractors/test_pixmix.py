"""PixMix: the mixing operations are those of the formulas, and its draws those of the generator of an image."""

import numpy as np
import pytest
from PIL import Image

from featood.data import packed_set
from featood.errors import UsageError
from featood.extractors.trainer import TrainOptions
from featood.extractors.trainer.pixmix import OPERATIONS, PixMix, added, multiplied, shares
from featood.extractors.transform import Transform
from featood.pipeline.training import train


def transform(channels):
    return Transform(channels, 32, 32, 0, (0.5,), (0.5,))


def mixing_set(*shape):
    return packed_set(np.random.default_rng(1).integers(256, size=(6, *shape), dtype=np.uint8))


@pytest.mark.parametrize("shares_", [(0.8, 0.3), (1.4, -0.2)])
def test_mixtures_are_those_of_a_loop(shares_):
    rng = np.random.default_rng(0)
    one, other = rng.random((3, 4, 3)), rng.random((3, 4, 3))
    other[0, 0, 0] = 0
    a, b = shares_
    for mixed, rule in (
        (added, lambda x, y: (a * (x * 2 - 1) + b * (y * 2 - 1) + 1) / 2),
        (multiplied, lambda x, y: ((x * 2) ** a * max(y * 2, 1e-37) ** b) / 2),
    ):
        found = mixed(one, other, a, b)
        for place in np.ndindex(one.shape):
            assert found[place] == pytest.approx(rule(float(one[place]), float(other[place])), rel=1e-12)


def test_shares_follow_their_distributions():
    rng = np.random.default_rng(0)
    drawn = np.array([shares(rng) for _ in range(20000)])
    negative = drawn[:, 1] < 0
    assert 0.48 < negative.mean() < 0.52
    for rows, mean in ((drawn[~negative], (3 / 4, 1 / 4)), (drawn[negative], (5 / 4, -1 / 4))):
        np.testing.assert_allclose(rows.mean(0), mean, atol=0.01)
        np.testing.assert_allclose(rows.var(0), 3 / 80, atol=0.002)  # of Beta(3, 1) and Beta(1, 3)


def test_operations_at_their_highest_level_move_pixels_as_named():
    ramp = Image.fromarray(np.arange(30 * 30, dtype=np.uint32).astype(np.uint8).reshape(30, 30))
    pixels = np.asarray(ramp)
    *_, across, down = (np.asarray(operation(ramp, 0.3, -1)) for operation in OPERATIONS)
    np.testing.assert_array_equal(across[:, 3:], pixels[:, :-3])
    np.testing.assert_array_equal(down[3:], pixels[:-3])
    solarized, posterized = (np.asarray(OPERATIONS[place](ramp, 0.3, 1)) for place in (4, 2))
    np.testing.assert_array_equal(solarized, np.where(pixels < 256 - 76, pixels, 255 - pixels))
    np.testing.assert_array_equal(posterized, pixels & 0b11100000)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (20, 20, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_their_shape_and_depend_on_the_generator_alone(shape, channels):
    mix = PixMix(mixing_set(*shape), transform(channels))
    image = np.random.default_rng(2).integers(256, size=(32, 32, channels), dtype=np.uint8)
    found = [mix(image, np.random.default_rng(seed)) for seed in (0, 0, *range(1, 12))]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in found)
    np.testing.assert_array_equal(found[0], found[1])
    assert len({one.tobytes() for one in found}) > 8


def test_the_mixing_set_is_needed_and_recorded(tmp_path):
    from featood.extractors.trainer import load_extractor

    given = {
        "dataset": "digits",
        "arch": "lenet",
        "image_size": 28,
        "limit": 64,
        "epochs": 1,
        "batch_size": 32,
    }
    with pytest.raises(UsageError, match="name a set by --mixing-set"):
        train("cross-entropy", **given, out=tmp_path / "net", augment=("pixmix",))
    with pytest.raises(UsageError, match="by --augment pixmix only"):
        train("cross-entropy", **given, out=tmp_path / "net", mixing_set="noise/test")
    train(
        "cross-entropy",
        **given,
        out=tmp_path / "net",
        augment=("crop:1", "pixmix"),
        mixing_set="noise/test",
        workers=2,
    )
    train(
        "cross-entropy", **given, out=tmp_path / "same", augment=("crop:1", "pixmix"), mixing_set="noise/test"
    )
    data = load_extractor(tmp_path / "net").facts.data
    assert data["mixing_set"] == "noise/test" and len(data["mixing_set_digest"]) == 64
    assert (tmp_path / "net/history.csv").read_bytes() == (tmp_path / "same/history.csv").read_bytes()
    with pytest.raises(UsageError, match=r"there are: crop.*pixmix"):
        TrainOptions(augment=("pixmax",))
