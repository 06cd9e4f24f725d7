"""The process around a command: signals, standard streams, and the conversion of every outcome to an exit code.

Only the standard library is imported at module level, so that signal handlers are installed before slow imports.
"""

from __future__ import annotations

__all__ = ["EXIT_INTERRUPTED", "Signals", "guarded", "main", "repair_streams"]

import contextlib
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

EXIT_INTERRUPTED = 130
WORKER_DIED = re.compile(r"DataLoader worker.* (is killed by signal|exited unexpectedly)")
PATIENCE = 1.0
"""Seconds within which a signal to the process group that ended a worker also reaches this process."""


def main() -> None:
    """Entry point of ``featood``."""

    def run() -> None:
        from featood.cli.root import root

        root(standalone_mode=False)

    repair_streams()
    signals = Signals()
    signals.install()
    code = guarded(run, signals)
    # If a signal interrupted code compiled from a string, as in dataclasses, `python -m` would exit with SIGINT instead
    # of the exit code, even if the exception was caught; running any string resets this state.
    exec("")
    sys.exit(code)


class Signals:
    """SIGTERM ends a command as orderly as Ctrl-C; a second signal of either kind ends it immediately.

    SIGTERM has its own handler instead of raising SIGINT, which background jobs of shell scripts ignore. If SIGINT was
    ignored, it stays ignored.
    """

    def __init__(self) -> None:
        self.received = False
        self.ended = False
        """Whether the command has ended in any way; after that, signals raise nothing."""
        self.awaited = False
        """Whether the command has ended by an error that a signal may explain, which is then only recorded."""
        self._process = os.getpid()

    def install(self) -> None:
        """Install the handlers; only allowed in the main thread."""
        signal.signal(signal.SIGTERM, self._handle)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._handle)
        sys.unraisablehook = self._unraisable

    def _handle(self, *_: object) -> None:
        # a worker that was just forked has this handler too, and nothing to clean up
        if self.received or os.getpid() != self._process or (self.ended and not self.awaited):
            os._exit(EXIT_INTERRUPTED)
        self.received = True
        if not self.ended:
            raise KeyboardInterrupt

    def _unraisable(self, found: sys.UnraisableHookArgs) -> None:
        """Ignore errors caused by the signal, and resend a signal that arrived where nothing can be raised."""
        if not self.received and not WORKER_DIED.search(str(found.exc_value)):
            sys.__unraisablehook__(found)
        elif issubclass(found.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, self._again).start()

    def _again(self) -> None:
        if not self.ended:
            self.received = False
            os.kill(os.getpid(), signal.SIGTERM)

    def wait(self) -> bool:
        """Wait briefly for a signal that may still arrive, and return whether one did."""
        ends = time.monotonic() + PATIENCE
        while not self.received and time.monotonic() < ends:
            time.sleep(0.01)
        self.awaited = False
        return self.received


def repair_streams() -> None:
    """Make standard output and error accept any text, even if they are closed or have a limited encoding."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:  # otherwise the next opened file would get the descriptor of the stream
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (open until the process ends)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def guarded(run: Callable[[], Any], signals: Signals | None = None) -> int:
    """Run the command line and convert every outcome to an exit code and at most one line of error.

    0 success, 1 unexpected error, 2 usage error, 3 missing or bad data, 4 corrupt cache, 5 mismatch, 130 interrupted
    (by Ctrl-C or SIGTERM). With ``--debug`` the traceback is printed before the line.

    Parameters
    ----------
    run : callable
        The command.
    signals : Signals, optional
        The signal handlers of the process, if it runs only this command.
    """
    stdout = sys.stdout
    try:
        _show_warnings_once()
        run()
        sys.stdout.flush()
    except BaseException as error:
        died = isinstance(error, RuntimeError) and bool(WORKER_DIED.search(str(error)))
        if signals is not None:
            signals.awaited, signals.ended = died, True
        if _left_by_reader(error, stdout):
            code, line = 0, ""
        else:
            code, line = _outcome(error, signals, died)
        if "--debug" in sys.argv and code not in (0, EXIT_INTERRUPTED):
            import traceback

            traceback.print_exception(error)
        _finish(line)
        return code
    return 0


def _outcome(error: BaseException, signals: Signals | None, died: bool) -> tuple[int, str]:
    """Return the exit code of an error and the line to print; `died` is whether it is about a dead worker."""
    import rich_click as click

    from featood.errors import FeatoodError, advice

    interrupted = isinstance(error, KeyboardInterrupt | click.Abort) or (
        signals is not None and (signals.received or (died and signals.wait()))
    )
    if interrupted:
        return (
            EXIT_INTERRUPTED,
            "interrupted; committed data are kept, run the same command again to resume",
        )
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None), ""
    if isinstance(error, click.ClickException):
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later
            with contextlib.suppress(OSError):
                error.show()
            return error.exit_code, ""
        context, problem = getattr(error, "ctx", None), error.format_message().rstrip(".")
        problem = re.sub(r"\.? \((Did you mean .*?)\)", r"; \1", problem)
        problem = re.sub(r"(^|; )[A-Z](?![A-Z])", lambda start: start[0].lower(), problem)
        return error.exit_code, f"error: {problem}" + (
            f"; see {context.command_path} --help" if context else ""
        )
    if isinstance(error, FeatoodError):
        return error.exit_code, f"error: {error}"
    if isinstance(error, OSError):  # disk full, no permission: the system's message is the most precise
        where, what = f": {error.filename}" if error.filename else "", advice(error)
        return 3, f"error: {error.strerror or error}{where}{f'; {what}' if what else ''}"
    if isinstance(error, MemoryError):
        return 3, "error: out of memory; close other programs, or use smaller blocks or batches"
    if died:
        return (
            3,
            "error: a process that reads images has died, possibly out of memory; use fewer with --workers",
        )
    what = f"unexpected {type(error).__name__}: {error}"
    return 1, f"error: {what} (--debug shows where; please report it)"


def _left_by_reader(error: BaseException | None, stdout: Any) -> bool:
    """Return whether the reader of a pipe has closed it, upon which click replaces standard output, and rich exits."""
    while isinstance(error, SystemExit) and sys.stdout is stdout:
        error = error.__context__
    return isinstance(error, BrokenPipeError | SystemExit)


def _finish(line: str) -> None:
    """Print the line, and keep streams that cannot be written to from failing again at exit."""
    from featood.reporter import print_line

    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if number == 2 and line:
                print_line(line)
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _show_warnings_once() -> None:
    from featood.reporter import print_line

    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category is UserWarning and str(message) not in shown:
            shown.add(str(message))
            print_line(f"warning: {message}")

    warnings.showwarning = show
    warnings.simplefilter("always", UserWarning)
