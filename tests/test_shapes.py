"""Shapes in signatures: they are checked in the tests, and have no effect elsewhere."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from featood.energies.svgd import svgd
from featood.flows.coupling import ActNorm
from featood.losses.reductions import mean_over
from featood.metrics.counts import ScoreCounts
from featood.nets.lipschitz import LipschitzLinear
from featood.numerics.class_gaussians import diagonal_distances

needs_checker = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("beartype", "jaxtyping")),
    reason="shapes are checked only if beartype and jaxtyping are installed",
)

# without the check, these calls return a value, because of broadcasting or because the argument is not used
WRONG = {
    "numerics": lambda: diagonal_distances(torch.ones(2, 3), torch.ones(4, 3), torch.ones(1, 3)),
    "losses": lambda: mean_over(torch.ones(2, 3), torch.ones(2, dtype=torch.bool)),
    "energies": lambda: svgd(lambda x: x.sum(), torch.ones(()), steps=0, step_size=1.0),
    "flows": lambda: ActNorm(3)(torch.ones(2, 1)),
    "nets": lambda: LipschitzLinear(3, 2, 1.0)(torch.ones(5, 4, 3)),
    "metrics": lambda: ScoreCounts(np.arange(2.0), np.ones(2, int), np.ones(1, int)),
    "a dtype": lambda: mean_over(torch.ones(2), torch.ones(2, dtype=torch.long)),
}


@needs_checker
@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_wrong_shape_raises(call):
    import jaxtyping

    with pytest.raises(jaxtyping.TypeCheckError):
        call()


@needs_checker
def test_integers_are_accepted_as_floats():
    from featood.losses import center_loss

    assert float(center_loss(torch.ones(2, 1), torch.zeros(2, dtype=torch.long), radius=1)) == 0


def test_shapes_are_not_checked_outside_of_the_tests():
    code = (
        "import sys, torch\n"
        "from featood.losses.reductions import mean_over\n"
        "print(float(mean_over(torch.ones(2, 3), torch.ones(2, dtype=torch.bool))), 'beartype' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["3.0", "False"]


@pytest.mark.parametrize("words", [["--help"], ["heads"]], ids=" ".join)
def test_the_quick_commands_do_not_import_jaxtyping(words):
    code = (
        f"import sys; from featood.cli.root import root; root({words}, standalone_mode=False);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(done.stderr.split()) & {"jaxtyping", "beartype", "torch", "numpy"}
