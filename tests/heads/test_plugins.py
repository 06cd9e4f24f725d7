"""Heads of other packages: whatever happens when they are imported, the command line works and names the broken."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from featood.heads import create_head, list_heads
from featood.testing import check_head

GOOD = '''
"""A head of another package."""
from featood.heads import register
from featood.heads.base.feature_head import FeatureHead

@register("theirs", title="Theirs", paper="Anybody", year=2020, needs=("features",), learns=False)
class Theirs(FeatureHead):
    """Score the norm."""

    def score_block(self, block, fitted):
        """Return the norm."""
        return self.vectors(block).norm(dim=1)
'''
TAKEN = GOOD.replace('"theirs"', '"knn"')
BROKEN = {
    "leaves": "raise SystemExit(7)",
    "odd": "class Odd(BaseException): pass\nraise Odd('two\\nlines')",
    "fails": "1 / 0",
    "lacks": "import no_such_package_at_all",
    "taken": TAKEN,
    "half": GOOD.replace('"theirs"', '"first"') + "\n" + TAKEN,
    "nameless": GOOD.replace('"theirs"', '"../../x"'),
    "needy": GOOD.replace('("features",)', '("magic",)'),
    "cardless": "from featood.heads.base.feature_head import FeatureHead\nclass Theirs(FeatureHead): pass",
    "inherits": "from featood.heads.distances.knn import KNN\nclass Theirs(KNN): pass",
}


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Install packages with entry points for the time of a test."""
    from featood.heads import registry

    registry.head_class("knn")  # imported once, it must register in the real table
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(registry, "_BROKEN", {})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    added = []

    def install(name, source, attribute=""):
        module = f"plugin_{name}"
        info = tmp_path / "site" / f"{module}-1.dist-info"
        info.mkdir(parents=True)
        (tmp_path / "site" / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[featood.heads]\n{name} = {module}{attribute}\n")
        importlib.invalidate_caches()
        added.append(module)

    yield install
    for module in added:
        sys.modules.pop(module, None)


def test_one_that_works_is_a_head_like_any_other(plugins, featood):
    plugins("works", GOOD)
    code, out, err = featood("heads", "--json")
    assert code == 0 and "theirs" in {row["name"] for row in json.loads(out)} and "warning" not in err
    assert featood("fit", "theirs", "--help")[0] == 0
    assert featood("heads", "--json")[1] == out  # asked twice


def test_the_head_of_the_guide_keeps_every_promise(plugins):
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    plugins("guide", re.search(r"^```python\n(.*?)^```", guide, re.M | re.S)[1])
    assert "my-means" in list_heads()
    check_head("my-means", p=3)
    z, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    means = [z[y == label].mean(0) for label in range(3)]
    expected = [min(np.linalg.norm(row - mean) ** 3 for mean in means) for row in z]
    np.testing.assert_allclose(create_head("my-means", p=3).fit(z, y).score(z), expected)
    project = tomllib.loads(re.search(r"^```toml\n(.*?)^```", guide, re.M | re.S)[1])["project"]
    assert project["entry-points"] == {"featood.heads": {"my-means": "my_means"}}


def test_broken_ones_are_listed_each_in_a_line_and_stop_nothing(plugins, featood):
    from featood.heads import broken_plugins

    before = set(list_heads())
    for name, source in BROKEN.items():
        plugins(name, source, ":Theirs" if name in ("cardless", "inherits") else "")
    plugins("works", GOOD)
    code, out, err = featood("heads", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)} == before | {
        "theirs"
    }  # and nothing of one that broke half-way
    assert set(broken_plugins()) == set(BROKEN)
    lines = [line for line in err.splitlines() if line.startswith("warning: plug-in ")]
    assert len(lines) == len(BROKEN) == err.count("\n")
    reasons = broken_plugins()
    assert "SystemExit: 7" in reasons["leaves"] and "two lines" in reasons["odd"]
    assert "knn is taken by featood.heads.distances.knn" in reasons["taken"]
    assert all("is not a registered head" in reasons[name] for name in ("cardless", "inherits"))
    assert "cannot be called '../../x'" in reasons["nameless"]
    assert type(create_head("knn")).__module__ == "featood.heads.distances.knn"
    code, _, err = featood("fit", "no-such-head")
    assert code == 2 and "there is no head" in err


def test_a_name_of_ours_is_taken_before_our_head_is_imported():
    code = (
        "import sys\n"
        "from featood.heads import FeatureHead, register\n"
        "card = {'title': 'T', 'paper': 'P', 'year': 2020, 'needs': ('features',)}\n"
        "assert 'featood.heads.distances.knn' not in sys.modules\n"
        "try:\n"
        "    register('knn', **card)(type('Theirs', (FeatureHead,), {'__doc__': 'Score.'}))\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "the name knn is taken by featood.heads.distances.knn.KNN\n"


def test_ctrl_c_while_a_plugin_is_imported_is_an_interruption(plugins, featood):
    plugins("slow", "raise KeyboardInterrupt")
    assert featood("heads")[0] == 130
