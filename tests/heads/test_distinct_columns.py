import numpy as np
import pytest
import torch
from manifests import manifest
from torch import nn

from featood import open_cache
from featood.cache.feature_set import FeatureSet
from featood.data.images.image_set import ImageSet
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.recipe import choose_transform
from featood.heads import create_head
from featood.heads.base.distinct_columns import distinct_columns
from featood.testing.fixture import Blockwise


def columns(rows=300, size=6, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(rows, size)).astype(np.float32)
    return first, rng.normal(size=(rows, size)).astype(np.float32)


def data(main="avg", **features):
    labels = np.arange(len(next(iter(features.values())))) % 3
    named = {name.replace("_", "."): values for name, values in features.items()}
    return FeatureSet(named, labels=labels, main=main)


def test_a_column_under_two_names_is_one_and_the_classifiers_input_stays():
    first, other = columns()
    found = distinct_columns(
        data(layer2_avg=other, layer3_avg=first, avg=first.copy(), std=other[:, :4]),
        ["layer2.avg", "layer3.avg", "avg", "std"],
    )
    assert found == (["layer2.avg", "avg", "std"], {"layer3.avg": "avg"})


def test_three_alike_leave_one():
    first, _ = columns()
    found = distinct_columns(data("c", a=first, b=first, c=first), ["a", "b", "c"])
    assert found == (["c"], {"a": "c", "b": "c"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_makes_no_new_column(dtype):
    first, _ = columns()
    coarse = torch.from_numpy(first).to(dtype)
    assert distinct_columns(data(avg=first, other=coarse), ["avg", "other"])[1] == {"other": "avg"}


def test_a_large_offset_hides_no_difference():
    first, other = columns()
    far = data(avg=first.astype(float) + 1e6, other=other.astype(float) + 1e6)
    assert not distinct_columns(far, ["avg", "other"])[1]


def test_one_feature_or_the_last_row_is_enough_of_a_difference():
    first, _ = columns(rows=9000)
    feature, last = first.copy(), first.copy()
    feature[:, 3] += 0.1 * columns(9000, seed=1)[1][:, 3]
    last[-1] += 1
    assert not distinct_columns(data(avg=first, other=feature), ["avg", "other"])[1]
    assert not distinct_columns(data(avg=first, other=last), ["avg", "other"])[1]


def test_values_that_are_not_finite():
    first, _ = columns()
    hole, elsewhere = first.copy(), first.copy()
    hole[3, 2] = np.nan
    elsewhere[4, 2] = np.inf
    assert distinct_columns(data(avg=hole, other=hole.copy()), ["avg", "other"])[1] == {"other": "avg"}
    assert not distinct_columns(data(avg=hole, other=elsewhere), ["avg", "other"])[1]


def test_columns_made_alike_are_known_without_reading():
    class Unread:
        shape, dtype = (5, 4), np.dtype("float32")

        def __getitem__(self, rows):
            raise AssertionError("was read")

    made = {"avg": ["layer3", "output", "avg"], "layer3.avg": ["layer3", "output", "avg"]}
    source = FeatureSet(dict.fromkeys(made, Unread()), origin=manifest({"columns": made}))
    assert distinct_columns(source, list(made)) == (["avg"], {"layer3.avg": "avg"})


def test_blocks_do_not_matter():
    first, other = columns()
    source = data(avg=first, same=first.copy(), other=other)
    assert distinct_columns(Blockwise.of(source), list(source.features)) == distinct_columns(
        source, list(source.features)
    )


def test_a_head_of_several_layers_counts_the_last_once():
    first, other = columns()
    twice, once = data(layer2_avg=other, layer3_avg=first, avg=first), data(layer2_avg=other, avg=first)
    with pytest.warns(UserWarning, match=r"left out layer3.avg \(the same as avg\)"):
        head = create_head("multi-mahalanobis").fit(twice)
    assert any("layer3.avg" in note for note in head.record.notes)
    alone = create_head("multi-mahalanobis").fit(once)
    np.testing.assert_array_equal(head.score(twice), alone.score(once))
    np.testing.assert_array_equal(head.score(once), alone.score(once))  # the column left out is not asked for
    both = create_head("multi-mahalanobis", features=("layer3.avg", "avg"), weights="equal").fit(twice)
    single = create_head("mahalanobis").fit(once)
    np.testing.assert_allclose(both.score(twice), 2 * single.score(once), rtol=1e-9)


def test_the_last_stage_of_a_network_is_the_classifiers_input(tmp_path):
    rng = np.random.default_rng(0)
    backbone = resolve_backbone("cifar-resnet20", "random")
    assert isinstance(backbone.module, nn.Module)
    pixels = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    images = ImageSet(name="noise", ids=[str(i) for i in range(12)], array=pixels, labels=np.arange(12) % 3)
    transform, _ = choose_transform(backbone, images)
    options = ExtractOptions(taps=("layer2", "layer3"), workers=0, batch_size=6)
    found = extract(backbone, images, transform, open_cache(tmp_path), options).features
    _, repeated = distinct_columns(found, list(found.features))
    assert repeated == {"layer3.avg": "avg", "layer3.std": "std"}
