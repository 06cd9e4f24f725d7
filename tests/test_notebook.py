"""Tables for notebooks, and progress in them."""

import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from pages import HOSTILE

from featood.cache import FeatureSet
from featood.errors import MissingPackage
from featood.heads import create_head
from featood.pipeline.scoring import score
from featood.reporter import TerminalReporter


class Cells(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not attrs

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return [
        FeatureSet({HOSTILE[0]: rng.normal(size=(30, 4)).astype("f4")}, labels=np.arange(30) % 2, name=name)
        for name in ("net/toy/train", f"net/{HOSTILE[1]}", f"net/{HOSTILE[0].replace('/', '')}")
    ]


def test_sets_heads_and_results_have_tables(sets):
    train, test, odd = sets
    head = create_head("knn", k=3).fit(train)
    shown = Cells(train._repr_html_())
    assert shown.texts[0] == "net/toy/train: 30 rows"
    assert shown.texts[4:] == [HOSTILE[0], "4", "float32", "labels", "-", "int64"]
    fitted = Cells(head._repr_html_())
    assert fitted.texts[0].startswith("knn (") and fitted.texts[0].endswith("fitted on net/toy/train")
    assert fitted.texts[fitted.texts.index("k") + 1] == "3"
    assert Cells(create_head("msp")._repr_html_()).texts[0].endswith("needs no fit")
    scoring = score({HOSTILE[0]: head}, test, {HOSTILE[2]: odd})
    results = Cells(scoring._repr_html_())
    auroc = scoring.results["rows"][0]["auroc"]
    place = results.texts.index(HOSTILE[0])
    assert results.texts[place : place + 3] == [HOSTILE[0], HOSTILE[2], f"{100 * auroc:.2f}"]
    for page in (shown, fitted, results):
        assert page.tags == {"table", "caption", "tr", "th", "td"}


def test_results_become_a_data_frame(sets, monkeypatch):
    train, test, odd = sets
    scoring = score({"knn": create_head("knn", k=3).fit(train)}, test, {"odd": odd})
    frame = scoring.to_frame()
    assert frame.shape[0] == 1 and frame.loc[0, "auroc"] == scoring.results["rows"][0]["auroc"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackage, match="notebook"):
        scoring.to_frame()


@pytest.mark.parametrize("installed", [True, False])
def test_bars_in_a_notebook_need_ipywidgets(monkeypatch, capsys, installed):
    import importlib.util

    import rich.console

    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: (installed or None) if name == "ipywidgets" else find(name)
    )
    started = []
    monkeypatch.setattr("rich.progress.Progress.start", lambda _: started.append(1))
    with TerminalReporter() as reporter:
        reporter.progress("scoring heads", 1, 2)
        reporter.progress("scoring heads", 2, 2)
    assert len(started) == installed
    assert capsys.readouterr().err.count("featood[notebook]") == (not installed)
