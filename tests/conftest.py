import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real images and weights; tests that need them skip where they are absent."""
    root = Path(os.environ.get("FEATOOD_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "weights").is_dir():
        pytest.skip(f"no real data at {root} (set FEATOOD_TEST_DATA)")
    return root.resolve()
