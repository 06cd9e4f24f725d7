import doctest
import importlib
import subprocess
import sys
import warnings

import pytest

import featood.heads
from featood.heads import create_head, head_class, head_entry, list_heads
from featood.heads.index import describe, read_index
from featood.heads.indexing import written


def test_index_and_stubs_are_those_of_the_heads():
    outdated = [path.name for path, text in written().items() if path.read_text(encoding="utf-8") != text]
    assert not outdated, "run make index"


def test_entries_are_those_of_the_classes():
    for name, entry in read_index().items():
        assert entry == describe(head_class(name)) == head_entry(name)


def test_heads_are_importable_from_the_package_and_from_their_family():
    for name, entry in read_index().items():
        family = importlib.import_module(entry.module.rpartition(".")[0])
        assert getattr(featood.heads, entry.qualname) is getattr(family, entry.qualname) is head_class(name)
        assert entry.qualname in dir(featood.heads) and entry.qualname in featood.heads.__all__


def test_names_cards_and_options_without_torch():
    code = (
        "import sys\n"
        "from featood.heads import head_entry, list_heads\n"
        "assert len(list_heads()) > 90 and head_entry('knn').options and 'torch' not in sys.modules\n"
        "import featood.heads\n"
        "featood.heads.KNN\n"
        "assert 'featood.heads.subspaces.vim' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_head_in_a_file_that_the_index_does_not_know_is_found(monkeypatch):
    known = dict(read_index())
    known.pop("knn")
    monkeypatch.setattr("featood.heads.registry.read_index", lambda: known)
    assert "knn" in list_heads() and head_entry("knn").card.name == create_head("knn").name == "knn"


@pytest.mark.parametrize("name", list_heads())
def test_docstrings_name_the_options_and_their_examples_run(name):
    cls = head_class(name)
    for option in head_entry(name).options:
        assert f"\n{option.name} : " in cls.__doc__ and option.help[1:30] in cls.__doc__
    runner = doctest.DocTestRunner()
    (test,) = doctest.DocTestFinder(recurse=False).find(cls, cls.__name__)
    with warnings.catch_warnings(action="ignore"):
        runner.run(test)
    assert runner.summarize(verbose=False) == (0, 5)
