"""Code runs only if the user names it, never because a cache contains its name."""

import importlib
import shlex
import sys

import pytest
import torch
from torch import nn

from featood.cache import open_cache
from featood.errors import Mismatch, UsageError
from featood.pipeline.resolve import find_set

CODE = """
from pathlib import Path
import torch
from torch import nn
with open(Path(__file__).with_suffix(".ran"), "a") as log:
    log.write("x")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
    def forward(self, x):
        return self.fc(x.mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture
def log(featood, toy_images, tmp_path, monkeypatch):
    """A cache extracted with a callable, and the file that logs its runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("home", None)
    importlib.invalidate_caches()
    (tmp_path / "home.py").write_text(CODE)
    code, _, err = featood(
        "extract", "--backbone", "python:home:make", "--dataset", "toy", "--image-size", "16"
    )
    assert code == 0, err
    sys.modules.pop("home")
    return tmp_path / "home.ran"


def test_a_cache_does_not_run_code_and_the_error_names_the_option(featood, log):
    log.unlink()
    code, _, err = featood("score", "--head", "msp", "--ood", "odd")
    assert code == 2 and not log.exists() and "home" not in sys.modules
    assert "python:home:make" in err and err.splitlines()[-1].startswith("error: ")
    option = shlex.split(err[err.index("--code") :])[:2]
    assert option == ["--code", "python:home:make"]
    code, out, err = featood("score", "--head", "msp", "--ood", "odd", *option)
    assert code == 0 and "odd" in out and log.read_text() == "x", err
    log.unlink()
    # the set is in the cache now
    assert featood("score", "--head", "msp", "--ood", "odd")[0] == 0 and not log.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("score", "--head", "msp", "--ood", "odd"),
        ("report", "--head", "msp", "--ood", "odd", "--out", "page.html"),
        ("fit", "outlier-exposure", "--outliers", "odd", "--epochs", "1"),
        ("tune", "knn", "--grid", "k=2,3", "--validation-ood", "odd"),
    ],
)
def test_every_command_that_extracts_requires_the_option(featood, log, words):
    log.unlink()
    code, _, err = featood(*words)
    assert code == 2 and "--code python:home:make" in err and not log.exists()
    code, _, err = featood(*words, "--backbone", "python:home:make")
    assert log.exists() and "--code" not in err, err


def test_only_the_code_of_the_cache_runs_and_it_may_be_at_another_path(featood, log, tmp_path):
    log.unlink()
    (tmp_path / "other.py").write_text(CODE)
    code, _, err = featood("score", "--head", "msp", "--ood", "odd", "--code", "python:other:make")
    assert code == 2 and not log.exists() and not (tmp_path / "other.ran").exists()
    (tmp_path / "home.py").rename(tmp_path / "moved.py")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "home.py").write_text(CODE.replace("manual_seed(0)", "manual_seed(1)"))
    named = f"python:{tmp_path / 'deep' / 'home.py'}:make"
    code, _, err = featood("score", "--head", "msp", "--ood", "odd", "--code", named)
    assert code == 5 and "no longer has the weights" in err  # it ran, and returned another network
    (tmp_path / "deep" / "home.py").write_text(CODE)
    assert featood("score", "--head", "msp", "--ood", "odd", "--code", named)[0] == 0
    assert not log.exists()


def test_a_network_can_be_passed_in_python(log, tmp_path, toy_images):
    import home

    log.unlink()
    net = home.make()
    data = str(toy_images)
    cache = open_cache(tmp_path / "cache", code=[net])
    test = cache["home.make/toy/test"]
    odd = find_set(cache, test, "odd", data_dir=data)
    assert odd.fingerprint == test.fingerprint and len(odd) == 50 and not log.exists()
    with torch.no_grad():
        net.fc.bias += 1
    other = open_cache(tmp_path / "cache", code=[net, nn.Linear(2, 2)])
    other.remove(["home.make/odd/test"])
    with pytest.raises(UsageError, match="--code"):
        find_set(other, test, "odd", data_dir=data)


def test_other_code_with_the_same_weights_is_refused(log, tmp_path, toy_images):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x):
            return 2 * self.fc(x.mean((2, 3)))

    import home

    net = Net()
    net.load_state_dict(home.make().state_dict())
    cache = open_cache(tmp_path / "cache", code=[net])
    with pytest.raises(Mismatch, match="code of python:home:make has changed"):
        find_set(cache, cache["home.make/toy/test"], "odd", data_dir=str(toy_images))
