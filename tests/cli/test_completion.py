"""Shell completion, tested with click's protocol."""

import os
import subprocess
import sys

import numpy as np
import pytest
from click.shell_completion import ShellComplete

from featood.cache import FeatureCache, import_arrays
from featood.cli.root import root
from featood.heads import create_head


def completed(*words, last=""):
    found = ShellComplete(root, {}, "featood", "_FEATOOD_COMPLETE").get_completions(list(words), last)
    return {item.value for item in found}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with two sets, and a head fitted with other options than the defaults."""
    opened = FeatureCache(tmp_path / "cache")
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for key in ("net/known/train", "net/odd/test"):
        import_arrays(opened, key, {"features": rows})
    create_head("knn", k=2).fit(rows).save(opened.heads_folder("net", "known") / "knn@k=2")
    monkeypatch.setenv("FEATOOD_CACHE", str(opened.root))
    return opened


def test_heads_are_completed_by_name():
    assert completed("fit", last="ma") == {
        "maf", "mahalanobis", "mahalanobis-odin", "mahalanobis-pp", "margin", "max-logit",
    }  # fmt: skip
    assert completed("tune", last="knn") == {"knn"}


def test_sets_and_fitted_heads_are_those_of_the_cache(cache):
    assert completed("cache", "verify") == {"net/known/train", "net/odd/test"}
    assert completed("cache", "export", last="net/k") == {"net/known/train"}
    assert completed("score", "--backbone") == {"net"}
    assert completed("fit", "knn", "--dataset") == {"known", "odd"}
    assert completed("score", "--head", last="knn") == {"knn@k=2"}
    assert completed("score", "--head", last="msp") == {"msp"}  # needs no fit


def test_ood_sets_are_completed_from_the_cache_and_the_registry_also_after_a_comma(cache):
    assert completed("score", "--ood", last="od") == {"odd"}
    assert completed("report", "--ood", last="odd,lsun-c") == {"odd,lsun-crop"}
    assert completed("fit", "energy-finetune", "--outliers", last="lsun-c") == {"lsun-crop"}
    assert completed("score", "--suite", last="cifar10-n") == {"cifar10-near"}
    assert completed("score", "--shifted", last="odd,cifar10-s") == {"odd,cifar10-shifted"}
    assert completed("report", "--shifted", last="cifar10-n") == set()
    assert "cifar10" in completed("extract", "--dataset", last="ci")


def test_completion_uses_the_given_cache(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("FEATOOD_CACHE")
    monkeypatch.chdir(tmp_path)
    assert completed("cache", "verify") == set()
    assert completed("cache", "verify", "--cache", str(cache.root)) == {"net/known/train", "net/odd/test"}


def test_a_damaged_or_missing_cache_prints_nothing(cache):
    (cache.root / "net" / "odd" / "test" / "manifest.json").write_bytes(b"{")
    assert completed("cache", "rm") == {"net/known/train", "net/odd/test"}
    assert completed("cache", "rm", "--cache", str(cache.root / "nothing")) == set()
    words = {"COMP_WORDS": "featood cache rm s3://x", "COMP_CWORD": "3", "_FEATOOD_COMPLETE": "bash_complete"}
    code = "import sys; sys.argv = ['featood']; from featood.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stdout.strip() and not done.stderr, done.stderr


def test_completion_in_a_shell(cache):
    words = {
        "COMP_WORDS": "featood cache verify net/o",
        "COMP_CWORD": "3",
        "_FEATOOD_COMPLETE": "bash_complete",
    }
    code = "import sys; sys.argv = ['featood']; from featood.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["plain,net/odd/test"], done.stderr
