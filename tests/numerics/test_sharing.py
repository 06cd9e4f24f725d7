import dataclasses

import pytest
import torch

from featood.numerics import sharing as module
from featood.numerics.sharing import digest, shared, shares, sharing
from featood.numerics.subspaces import principal_axes


class Counting:
    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self, *_):
        self.calls += 1
        return self.value


def test_a_result_is_computed_once_within_the_context_and_never_kept_outside():
    compute = Counting(torch.ones(3))
    for _ in range(2):
        assert shared("key", compute) is compute.value
    assert compute.calls == 2
    with sharing():
        for _ in range(3):
            assert shared("key", compute) is compute.value
        assert compute.calls == 3
    shared("key", compute)
    assert compute.calls == 4


def test_without_a_key_nothing_is_shared():
    compute = Counting(1)
    with sharing():
        shared(lambda: None, compute)
        shared(None, compute)
    assert compute.calls == 2


def test_an_error_is_not_a_result():
    def fail():
        raise ValueError("no")

    with sharing():
        with pytest.raises(ValueError, match="no"):
            shared("key", fail)
        assert shared("key", lambda: 2) == 2


def test_the_results_used_last_are_kept_up_to_the_limit():
    compute = {name: Counting(torch.zeros(100, dtype=torch.float64)) for name in "abc"}
    with sharing(limit=1600):  # two of them
        for name in "abaca":
            shared(name, compute[name])
        assert {name: part.calls for name, part in compute.items()} == {"a": 1, "b": 1, "c": 1}
        shared("b", compute["b"])
    assert compute["b"].calls == 2


def test_the_tensors_of_dataclasses_and_tuples_count():
    @dataclasses.dataclass
    class Pair:
        one: torch.Tensor
        other: int

    assert module._size((Pair(torch.zeros(5), 3), torch.zeros(2, dtype=torch.float64))) == 36


def test_a_digest_depends_on_type_shape_and_values():
    rows = torch.arange(6.0)
    others = [rows.double(), rows.view(2, 3), rows + 1, rows.int()]
    assert len({digest(rows), *map(digest, others)}) == 5
    assert digest(rows.view(2, 3).T) == digest(rows.view(2, 3).T.contiguous())
    assert digest(rows, rows) != digest(rows)


def test_equal_tensors_have_one_decomposition(monkeypatch):
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    matrix = matrix @ matrix.T
    calls, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda values: calls.append(1) or eigh(values))
    with sharing():
        first, again = principal_axes(matrix), principal_axes(matrix.clone())
    assert len(calls) == 1 and first is again
    assert torch.equal(principal_axes(matrix)[1], first[1]) and len(calls) == 2


def test_functions_do_not_share_with_each_other():
    one, other = shares(lambda x: x + 1), shares(principal_axes)
    with sharing():
        assert torch.equal(one(torch.eye(2)), torch.eye(2) + 1)
        assert torch.equal(other(torch.eye(2))[0], torch.ones(2))
