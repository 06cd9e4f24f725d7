import importlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# In the tests, the shapes and types of all calls are checked against their signatures. The hook adds the checks when a
# module is imported, so it must be installed before importing featood; without the packages, nothing is checked.
if all(importlib.util.find_spec(name) for name in ("beartype", "jaxtyping")):
    from jaxtyping import install_import_hook

    CHECKED = ("decisions", "energies", "flows", "losses", "metrics", "nets", "numerics")
    install_import_hook([f"featood.{name}" for name in CHECKED], "shape_checks.checked")

for name in ("FEATOOD_DATA", "FEATOOD_CACHE"):  # tests neither read nor write the folders of who runs them
    os.environ.pop(name, None)

settings.register_profile(
    "untimed", deadline=None
)  # the duration of an example is meaningless on a busy machine
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real images and weights; tests that need it are skipped if it is missing."""
    root = Path(os.environ.get("FEATOOD_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "weights").is_dir():
        pytest.skip(f"no real data at {root} (set FEATOOD_TEST_DATA)")
    return root.resolve()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tests run in parallel processes, so more threads would only compete."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def script(monkeypatch):
    """Import a benchmark like when it is run; several have the same name as a folder."""
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    for name in [path.stem for path in folder.glob("*.py")]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


@pytest.fixture
def detectors():
    """Detectors of pytorch-ood; tests that need them are skipped if it is not installed."""
    from featood.extractors.vision import torchvision  # noqa: F401  (makes torchvision importable for pytorch-ood)

    return pytest.importorskip("pytorch_ood.detector")


@pytest.fixture
def featood(monkeypatch, capsys, tmp_path):
    """Run the command line in this process: ``featood("score", "--ood", "x")`` returns (exit code, out, err)."""
    import warnings

    from featood.cli.process import guarded
    from featood.cli.root import root

    monkeypatch.setenv("FEATOOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args: str) -> tuple[int, str, str]:
        words = [str(arg) for arg in args]
        monkeypatch.setattr(sys, "argv", ["featood", *words])
        capsys.readouterr()
        with warnings.catch_warnings():
            code = guarded(lambda: root(words, prog_name="featood", standalone_mode=False))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def toy_images(tmp_path, monkeypatch) -> Path:
    """A folder of tiny image sets: ``toy`` (train, test; 3 classes) and ``odd`` (test)."""
    import numpy as np

    folder = tmp_path / "images"
    rng = np.random.default_rng(0)
    for name, split, rows, brightness in (
        ("toy", "train", 90, 80),
        ("toy", "test", 60, 80),
        ("odd", "test", 50, 170),
    ):
        labels = rng.integers(0, 3, rows)
        noise = rng.integers(0, 60, (rows, 16, 16, 3))
        images = (noise + brightness + 20 * labels[:, None, None, None]).astype(np.uint8)
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.savez(folder / name / f"{split}.npz", images=images, labels=labels)
    monkeypatch.setenv("FEATOOD_DATA", str(folder))
    return folder
