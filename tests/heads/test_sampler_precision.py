import numpy as np
import pytest
from draws import two_gaussians

from featood.heads import create_head

SMALL = {"epochs": 2, "width": 16, "sgld_steps": 3, "batch_size": 32, "lr": 1e-3, "depth": 2}


@pytest.mark.parametrize("name", ["heat-gmm", "cd"])
def test_sampling_in_bfloat16_changes_little(name):
    train, test = two_gaussians(200), two_gaussians(100, seed=1)
    own = {"relu": False} if name == "heat-gmm" else {"base": "none"}
    options = {**SMALL, **own, "space": "standardize"}
    exact, reduced = (
        create_head(name, **options, sampler_precision=precision).fit(train)
        for precision in ("float32", "bfloat16")
    )
    assert reduced.options["sampler_precision"] == "bfloat16"
    found, expected = reduced.score(test), exact.score(test)
    assert not np.array_equal(found, expected)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
