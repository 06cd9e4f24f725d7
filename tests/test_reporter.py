import io
import sys

import pytest
from reporters import Kept

from featood.pipeline.tensorboard import TensorBoardReporter
from featood.reporter import SILENT, Reporter, TerminalReporter


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_base_class_is_silent(capsys):
    with Reporter() as reporter:
        reporter.line("a line")
        reporter.progress("work", 1, 2, loss=0.5)
        reporter.task("work")(2, 2)
    SILENT.line("a line")
    assert capsys.readouterr() == ("", "")


def test_a_task_reports_progress_under_its_name():
    kept = Kept()
    report = kept.task("training knn")
    report(1, 10, loss=0.5)
    report(2, 10)
    assert kept.steps == [("training knn", 1, 10, {"loss": 0.5}), ("training knn", 2, 10, {})]


def test_lines_are_printed_to_standard_error_and_bars_only_on_a_terminal(capsys):
    with TerminalReporter() as reporter:
        reporter.line("fitting knn")
        for done in range(5):
            reporter.progress("scoring heads", done, 5)
    out, err = capsys.readouterr()
    assert out == "" and err == "fitting knn\n"


def test_a_terminal_shows_bars_with_their_figures(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with TerminalReporter() as reporter:
        reporter.progress("training jem", 0, 4, loss=0.25)
        reporter.progress("training cd", 1, 2)
        reporter.progress("training jem", 3, 4, loss=0.125)
        bars = {task.description: task for task in reporter._bars.tasks}
        assert bars["training jem"].completed == 3 and bars["training jem"].total == 4
        assert bars["training jem"].fields["figures"].endswith("loss 0.125")
        assert bars["training cd"].completed == 1
        assert reporter._bars.live.is_started
    assert not reporter._bars.live.is_started
    assert "training jem" in sys.stderr.getvalue()


def test_a_closed_standard_error_is_ignored(monkeypatch):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    TerminalReporter().line("fitting knn")


def test_tensorboard_logs_figures_and_forwards_everything(monkeypatch, tmp_path):
    made = []

    class Writer:
        def __init__(self, folder):
            self.folder, self.scalars, self.closed = folder, [], False
            made.append(self)

        def add_scalar(self, name, value, step):
            self.scalars.append((name, value, step))

        def close(self):
            self.closed = True

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    kept = Kept()
    with TensorBoardReporter(tmp_path, kept) as reporter:
        reporter.line("fitting jem")
        reporter.progress("extracting", 5, 9)
        for step in (1, 2, 1):
            reporter.progress("training jem", step, 2, loss=float(step))
    assert kept.lines == ["fitting jem"] and [step[:2] for step in kept.steps] == [
        ("extracting", 5), ("training jem", 1), ("training jem", 2), ("training jem", 1)
    ]  # fmt: skip
    first, second = made
    assert (first.folder, second.folder) == (str(tmp_path / "fit-1"), str(tmp_path / "fit-2"))
    assert first.scalars == [("loss", 1.0, 1), ("loss", 2.0, 2)] and second.scalars == [("loss", 1.0, 1)]
    assert first.closed and second.closed


def test_the_error_names_tensorboard_if_it_is_not_installed(monkeypatch, tmp_path):
    from featood.errors import UsageError

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"featood\[tensorboard\]"):
        TensorBoardReporter(tmp_path, SILENT)
