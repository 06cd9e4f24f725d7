"""The page of a monitor, and its figures for Prometheus."""

import math
from html.parser import HTMLParser

import pytest

from featood.report.monitoring import write_monitor_page
from featood.report.plots.streams import capital_plot, share_plot
from featood.report.plots.style import svg
from featood.report.prometheus import prometheus_text

HOSTILE = '<script>alert("1")</script>\n{{ 7*7 }}\\'


def batch(number, **changed):
    return {
        "batch": number, "rows": 50, "unread": 1, "out": 3 * number, "low": 0.01, "high": 0.2, "all_rows": 50 * number,
        "all_out": 9, "all_low": 0.02, "all_high": 0.11, "log_capital": 1.5 * number, "scores_p": 0.2, "moved": 0.0,
        "mmd": -0.001, "mmd_p": 0.7, "alarm": None, "diagnosis": None,
    } | changed  # fmt: skip


EMPTY = batch(3, rows=0, out=0, low=None, high=None, scores_p=None, moved=None, mmd=None, mmd_p=None)
ALARM = {"row": 119, "id": HOSTILE, "change": "higher", "since": 99}
ROW = {
    "id": HOSTILE, "score": 0.25, "out": True, "class": HOSTILE, "neighbour": HOSTILE, "neighbour_class": HOSTILE,
}  # fmt: skip
DIAGNOSIS = {
    "kind": "new class", "rows": 40, "out": 11, "moved": 0.03, "clustered": 0.9, "classes_p": 0.5, "scores_p": 1e-9,
    "unusual": [ROW], "classes": [{"class": HOSTILE, "before": 0.1, "now": 0.4, "out": None}],
}  # fmt: skip


def summary(**changed):
    return {
        "head": HOSTILE, "set": HOSTILE, "calibration_rows": 1000, "alarm_rate": 0.05, "false_alarm": 0.01,
        "batches": 3, "rows": 100, "unread": 33, "out": 9, "low": 0.02, "high": 0.11,
        "history": [batch(1), batch(2), EMPTY], "alarm": ALARM, "diagnosis": DIAGNOSIS, "why": "the rows are close",
    } | changed  # fmt: skip


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.text += " "
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_the_page_has_all_that_is_known(tmp_path):
    write_monitor_page(tmp_path / "page.html", summary(head="knn", set="net/digits/test"), "today")
    text = " ".join(Tags((tmp_path / "page.html").read_text()).text.split())
    for part in (
        "Monitor of knn", "Alarm at row 120", "probably since row 100", "Diagnosis: new class", "The rows are close",
        "40 rows since the change, 11 of them", "Share expected 5.0 %", "2.0 to 11.0", "1e-09", "0.25 yes",
        "today.", "Probability of a false alarm 1 %", "10.0 40.0 -", "3 0 1 0 - 4.50",
    ):  # fmt: skip
        assert part in text, part


def test_text_from_files_is_never_markup(tmp_path):
    write_monitor_page(tmp_path / "page.html", summary())
    page = (tmp_path / "page.html").read_text()
    tags = Tags(page)
    assert not tags.names & {"script", "iframe", "img", "link", "object"} and "49" not in tags.text
    assert not [value for name, value in tags.attributes if name.startswith("on") or name in ("src", "href")
                if not str(value).startswith("#")]  # fmt: skip
    assert 'alert("1")' in tags.text and "default-src 'none'" in page


@pytest.mark.parametrize("history", [[], [EMPTY]])
def test_a_monitor_without_rows_has_a_page(history, tmp_path):
    nothing = {"rows": 0, "out": 0, "low": None, "high": None, "alarm": None, "diagnosis": None, "why": ""}
    write_monitor_page(tmp_path / "page.html", summary(history=history, **nothing))
    assert "No alarm." in (tmp_path / "page.html").read_text()


def test_the_figures_show_every_batch():
    for figure in (capital_plot([batch(1), batch(2)], 0.01), share_plot([batch(1), batch(2)], 0.05)):
        (axes,) = figure.axes
        assert axes.lines[0].get_xdata().tolist() == [1, 2]
        assert svg(figure).startswith(b"<svg")


def test_prometheus_reads_the_figures():
    parser = pytest.importorskip("prometheus_client.parser")
    report = batch(2, alarm=ALARM, diagnosis=DIAGNOSIS)
    text = prometheus_text(report, 0.01, 33, HOSTILE)
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert all(family.documentation for family in families.values())
    samples = [sample for family in families.values() for sample in family.samples]
    assert {sample.labels["monitor"] for sample in samples} == {HOSTILE}
    values = {sample.name.removeprefix("featood_monitor_"): sample.value for sample in samples}
    assert values == {
        "rows_total": 100, "unread_total": 33, "out_total": 9, "batches_total": 2, "out_share": 0.12,
        "out_share_low": 0.01, "out_share_high": 0.2, "log_capital": 3.0, "alarm_log_capital": -math.log(0.01),
        "alarm": 1, "scores_p": 0.2, "features_moved": 0.0, "mmd": -0.001, "mmd_p": 0.7, "diagnosis": 1,
    }  # fmt: skip
    assert families["featood_monitor_diagnosis"].samples[0].labels["kind"] == "new class"
    assert (
        families["featood_monitor_rows"].type == "counter"
        and families["featood_monitor_alarm"].type == "gauge"
    )


def test_figures_that_are_unknown_are_left_out():
    parser = pytest.importorskip("prometheus_client.parser")
    text = prometheus_text(EMPTY, 0.05, 0, "a")
    names = {
        family.name.removeprefix("featood_monitor_") for family in parser.text_string_to_metric_families(text)
    }
    assert names == {"rows", "unread", "out", "batches", "log_capital", "alarm_log_capital", "alarm"}
