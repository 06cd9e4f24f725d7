import sys

import pytest

MODULES = {
    "__init__": "",
    "called": "def work(value):\n    from walked import late\n    return [late.double(item) for item in value]\n",
    "late": "from walked import imported\n\ndef double(value):\n    return 2 * value\n\nTABLE = [double(1)]\n",
    "imported": "def unused():\n    pass\n\nclass Body:\n    value = 1\n\nunused()\n",
    "bodies": "def make():\n    pass\n",
}


@pytest.fixture
def walked(tmp_path, monkeypatch):
    """A package whose modules are used in different ways."""
    (tmp_path / "walked").mkdir()
    for name, text in MODULES.items():
        (tmp_path / "walked" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "walked"
    for name in [name for name in sys.modules if name.split(".")[0] == "walked"]:
        del sys.modules[name]


def test_modules_count_if_functions_run_outside_imports(script, walked):
    footprint = script("footprint").Footprint(walked)
    sys.setprofile(footprint)
    try:
        from walked import bodies, called  # noqa: F401

        found = called.work([1, 2])

        class Outside:
            made = found
    finally:
        sys.setprofile(None)
    assert found == [2, 4] == Outside.made
    assert footprint.files == {str(walked / "called.py"), str(walked / "late.py")}


def test_functions_that_only_an_import_calls_do_not_count(script, walked):
    footprint = script("footprint").Footprint(walked)
    sys.setprofile(footprint)
    try:
        from walked import late  # noqa: F401
    finally:
        sys.setprofile(None)
    assert footprint.files == set()
