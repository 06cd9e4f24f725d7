import importlib
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import featood

ROOT = Path(featood.__file__).parent
LAZY = sorted(
    ".".join(("featood", *stub.parent.relative_to(ROOT).parts)) for stub in ROOT.rglob("__init__.pyi")
)


@pytest.mark.parametrize("name", LAZY)
def test_every_name_of_a_stub_exists(name):
    package = importlib.import_module(name)
    assert package.__all__
    for attribute in package.__all__:
        assert not isinstance(getattr(package, attribute), types.ModuleType), attribute


@pytest.mark.parametrize("name", LAZY)
def test_no_name_is_hidden_by_a_module(name):
    package = importlib.import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)


def test_a_package_loads_only_what_is_used():
    code = "import sys, featood.metrics as m; m.aurra; print(*(n for n in sys.modules if '.metrics.' in n))"
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(found) == {"featood.metrics.classification", "featood.metrics.counts"}


def test_the_command_line_imports_the_command_that_runs():
    code = (
        "import sys; from featood.cli.root import root; root(['cache', 'ls', '--help'], standalone_mode=False);"
        "print(*(n for n in sys.modules if n.startswith('featood.')), file=sys.stderr)"
    )
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stderr.split()
    )
    assert "featood.cli.cache" in loaded
    assert not loaded & {"featood.cli.fit", "featood.cli.score", "featood.cache", "featood.heads"}
