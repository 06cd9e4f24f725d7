import io
import sys

import pytest
from reporters import Kept

from featood.pipeline.tensorboard import TensorBoardReporter
from featood.reporter import SILENT, Reporter, TerminalReporter, speed


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


def test_a_task_is_progress_under_one_name():
    kept = Kept()
    report = kept.task("training knn")
    report(1, 10, loss=0.5)
    report(2, 10)
    assert kept.steps == [("training knn", 1, 10, {"loss": 0.5}), ("training knn", 2, 10, {})]


def test_lines_go_to_standard_error_and_bars_only_to_a_terminal(capsys):
    with TerminalReporter() as reporter:
        reporter.line("fitting knn")
        for done in range(5):
            reporter.progress("scoring heads", done, 5)
    out, err = capsys.readouterr()
    assert out == "" and err == "fitting knn\n"


def test_a_terminal_shows_bars_with_figures(monkeypatch):
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


def test_slow_steps_show_seconds_per_step_and_unknown_totals_a_moving_bar(monkeypatch):
    assert [speed(*figures) for figures in ((10, 0.1), (0, 5.0), (500, 2.0), (3, 3.0), (2, 9.0))] == [
        "", "", "250/s ", "1/s ", "4.5 s/step "
    ]  # fmt: skip
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with TerminalReporter() as reporter, reporter.working("reading"):
        assert reporter._bars.tasks[0].total is None
    assert reporter._bars.tasks[0].finished


def test_short_jobs_show_no_bars_if_asked_to(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    now = [100.0]
    monkeypatch.setattr("featood.reporter.time.monotonic", lambda: now[0])
    with TerminalReporter(after=2.0) as reporter:
        reporter.progress("training", 1, 9)
        assert reporter._bars is None
        now[0] += 2.0
        reporter.progress("training", 2, 9)
        assert reporter._bars.tasks[0].completed == 2


def test_a_network_trained_in_python_shows_its_progress(monkeypatch):
    import numpy as np

    from featood.heads import create_head

    seen = []
    monkeypatch.setattr(TerminalReporter, "progress", lambda _, what, *__, **___: seen.append(what))
    rng = np.random.default_rng(0)
    create_head("mlp", epochs=1, width=4).fit(rng.normal(size=(40, 3)), rng.integers(0, 2, 40))
    assert set(seen) == {"training mlp"}


def test_a_closed_standard_error_does_not_stop_the_job(monkeypatch):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    TerminalReporter().line("fitting knn")


def test_tensorboard_gets_the_figures_and_the_other_reporter_everything(monkeypatch, tmp_path):
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


def test_the_error_names_a_missing_tensorboard(monkeypatch, tmp_path):
    from featood.errors import UsageError

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"featood\[tensorboard\]"):
        TensorBoardReporter(tmp_path, SILENT)
