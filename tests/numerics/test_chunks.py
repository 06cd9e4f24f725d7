"""Functions applied to chunks of rows."""

import numpy as np
import torch

from featood.numerics.memory import by_chunks


def test_chunks_give_the_values_of_all_rows():
    rows, others = torch.randn(10, 3), torch.randn(10, 2)
    sizes = []

    def function(first, second):
        sizes.append(len(first))
        return first.sum(1) * second.prod(1)

    found = by_chunks(function, 4, rows, others)
    np.testing.assert_allclose(found, rows.numpy().sum(1) * others.numpy().prod(1), rtol=1e-6)
    assert sizes == [4, 4, 2]


def test_a_traced_graph_takes_any_number_of_rows():
    class Module(torch.nn.Module):
        def forward(self, rows):
            return by_chunks(lambda part: part.sum(1), 4, rows)

    shapes = {"rows": {0: torch.export.Dim("rows")}}
    program = torch.export.export(Module(), (torch.ones(3, 2),), dynamic_shapes=shapes)
    assert program.module()(torch.ones(11, 2)).tolist() == [2.0] * 11
