import math

import pytest
import torch

from featood.energies import HybridObjective, hybrid_contrast
from featood.energies.hybrid import LogitQueue


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_contrast_is_that_of_single_logits():
    logits = torch.randn(5, 3, generator=generator(), dtype=torch.float64)
    others = torch.randn(7, 3, generator=generator(1), dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        own = math.exp(row[label] / math.hypot(*row) / 0.2)
        negative = [math.exp(other[label] / math.hypot(*other) / 0.2) for other in others.tolist()]
        expected -= math.log(own / (own + sum(negative))) / 5
    assert float(hybrid_contrast(logits, labels, others, 0.2)) == pytest.approx(expected, rel=1e-12)


def test_the_queue_has_the_latest_logits():
    queue, pushed = LogitQueue(6, 2, generator()), []
    first = queue.values.clone()
    for size in (2, 3, 4, 9):
        rows = torch.randn(size, 2, generator=generator(size))
        queue.push(rows)
        pushed += rows.tolist()
        latest = {tuple(row) for row in pushed[-6:]}
        found = {tuple(row) for row in queue.values.tolist()}
        assert latest <= found | {tuple(row) for row in first.tolist()} and latest - found == set()


def test_the_queue_is_contrasted_before_the_batch_joins_it():
    objective = HybridObjective(queue_size=8)
    net = torch.nn.Linear(4, 3)
    parts = objective.energy_parts((4,), 3, generator())
    rows, labels = torch.randn(5, 4, generator=generator(3)), torch.tensor([0, 1, 2, 0, 1])
    before = parts["queue"].values.clone()
    losses = objective.energy_losses(net, parts, rows, labels, generator())
    logits = net(rows)
    torch.testing.assert_close(losses["contrast"], hybrid_contrast(logits, labels, before))
    named = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(losses["loss"], named + losses["contrast"])
    torch.testing.assert_close(parts["queue"].values[:5], logits)
