"""Random divisions of data sets into known and unknown classes."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from featood.detectors import DynamicOSS
from featood.errors import UsageError

LABELS = np.random.default_rng(0).integers(9, size=400)
DATA = TensorDataset(torch.arange(400), torch.as_tensor(LABELS))
STAGES = ("train", "val", "test")


def rows(split, stage, **parts):
    return sorted(int(x) for x, _ in getattr(split, f"{stage}_dataset")(**parts))


@pytest.mark.parametrize("seed", range(5))
def test_classes_and_rows_of_each_stage(seed):
    split = DynamicOSS(DATA, kuc=1, uuc_val=2, uuc_test=3, seed=seed)
    order = np.random.default_rng(seed).permutation(9).tolist()
    assert (split.kuc, split.uuc, split.kkc) == ({order[0]}, set(order[1:6]), set(order[6:]))
    assert split.unique_targets.tolist() == list(range(9))
    unknown = {"train": {order[0]}, "val": set(order[:3]), "test": {order[0], *order[3:6]}}
    known, outliers = ({stage: rows(split, stage, **part) for stage in STAGES} for part in (
        {"out_dist": False}, {"in_dist": False},
    ))  # fmt: skip
    for stage in STAGES:
        assert {int(LABELS[row]) for row in known[stage]} == split.kkc
        assert {int(LABELS[row]) for row in outliers[stage]} == unknown[stage]
        assert rows(split, stage) == sorted(known[stage] + outliers[stage])
        assert rows(split, stage, in_dist=False, out_dist=False) == []
    # no row is in two stages, and none is left out
    assert sorted(row for stage in STAGES for row in rows(split, stage)) == list(range(400))
    for one in split.kkc | split.kuc:
        count = np.count_nonzero(one == LABELS)
        found = [sum(LABELS[row] == one for row in rows(split, stage)) for stage in STAGES]
        assert found == [int(0.7 * count), int(0.2 * count), count - int(0.7 * count) - int(0.2 * count)]


def test_seeds_and_targets():
    first = DynamicOSS(DATA)
    again = DynamicOSS(DATA, seed=first.seed)
    assert all(rows(first, stage) == rows(again, stage) for stage in STAGES)
    assert rows(DynamicOSS(DATA, seed=1), "train") != rows(DynamicOSS(DATA, seed=2), "train")

    class Labelled:
        targets = LABELS.tolist()

        def __getitem__(self, row):
            return DATA[row]

    assert rows(DynamicOSS(Labelled(), seed=3), "val") == rows(DynamicOSS(DATA, seed=3), "val")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"train_size": 0.5}, "must sum to 1"), ({"kuc": 5}, "of 9 classes, 9 cannot"), ({"uuc_val": -1}, "cannot be")],
)  # fmt: skip
def test_what_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        DynamicOSS(DATA, **options)
