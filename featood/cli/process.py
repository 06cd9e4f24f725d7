"""The process around a command: signals, standard streams, and how everything that can happen becomes an exit code.

Only the standard library is imported at once, so that signals are in order before anything slow begins.
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
"""Seconds in which a signal to the whole process group, which has ended a worker, reaches this process too."""


def main() -> None:
    """Entry point of ``featood``."""

    def run() -> None:
        from featood.cli.root import root

        root(standalone_mode=False)

    repair_streams()
    signals = Signals()
    signals.install()
    code = guarded(run, signals)
    # Where a signal met code that is run from a string, as dataclasses make, `python -m` would end with SIGINT instead
    # of the code, whoever caught the exception; running any string forgets it.
    exec("")
    sys.exit(code)


class Signals:
    """SIGTERM ends a command in the orderly way of Ctrl-C; a second signal of either kind ends it at once.

    SIGTERM is handled on its own and not by raising SIGINT, which background jobs of a shell script ignore. SIGINT
    stays ignored where it was.
    """

    def __init__(self) -> None:
        self.received = False
        self.ended = False
        """Whether the command has come to an end, of whatever kind; nothing is raised any more then."""
        self._process = os.getpid()

    def install(self) -> None:
        """Take the signals over; only the main thread may."""
        signal.signal(signal.SIGTERM, self._handle)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._handle)
        sys.unraisablehook = self._unraisable

    def _handle(self, *_: object) -> None:
        # a worker that was just forked has this handler too, and nothing to put in order
        if self.received or self.ended or os.getpid() != self._process:
            os._exit(EXIT_INTERRUPTED)
        self.received = True
        raise KeyboardInterrupt

    def _unraisable(self, found: sys.UnraisableHookArgs) -> None:
        """Ignore what fails because of the signal, and send one again that came where nothing can be raised."""
        if not self.received and not WORKER_DIED.search(str(found.exc_value)):
            sys.__unraisablehook__(found)
        elif issubclass(found.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, self._again).start()

    def _again(self) -> None:
        if not self.ended:
            self.received = False
            os.kill(os.getpid(), signal.SIGTERM)

    def wait(self) -> bool:
        """Wait a moment for a signal that may still arrive, and tell whether one did."""
        ends, self.ended = time.monotonic() + PATIENCE, False
        with contextlib.suppress(KeyboardInterrupt):
            while not self.received and time.monotonic() < ends:
                time.sleep(0.01)
        self.ended = True
        return self.received


def repair_streams() -> None:
    """Make standard output and error take any text, also where they are closed or have few characters."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would be taken for the stream
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (for as long as the process lives)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def guarded(run: Callable[[], Any], signals: Signals | None = None) -> int:
    """Run the command line and turn every outcome into an exit code and at most one line of error.

    0 done, 1 unexpected, 2 usage, 3 data missing or bad, 4 corrupt cache, 5 mismatch, 130 interrupted (by Ctrl-C or
    SIGTERM). With ``--debug`` the traceback comes before the line.

    Parameters
    ----------
    run : callable
        The command.
    signals : Signals, optional
        Those of the process, where it is ours.
    """
    try:
        _show_warnings_once()
        run()
        sys.stdout.flush()
    except BaseException as error:
        if signals is not None:
            signals.ended = True
        code, line = _outcome(error, signals)
        if "--debug" in sys.argv and code not in (0, EXIT_INTERRUPTED):
            import traceback

            traceback.print_exception(error)
        _finish(line)
        return code
    return 0


def _outcome(error: BaseException, signals: Signals | None) -> tuple[int, str]:
    """Return the exit code of an error and the line to print."""
    import rich_click as click

    from featood.errors import FeatoodError, advice

    died = isinstance(error, RuntimeError) and WORKER_DIED.search(str(error))
    interrupted = isinstance(error, KeyboardInterrupt | click.Abort) or (
        signals is not None and (signals.received or (died and signals.wait()))
    )
    if interrupted:
        return (
            EXIT_INTERRUPTED,
            "interrupted; what was committed is kept, run the same command again to go on",
        )
    if _left_by_reader(error):
        return 0, ""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None), ""
    if isinstance(error, click.ClickException):
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code, ""
    if isinstance(error, FeatoodError):
        return error.exit_code, f"error: {error}"
    if isinstance(error, OSError):  # disk full, no permission: the system's words are the best there are
        where, what = f": {error.filename}" if error.filename else "", advice(error)
        return 3, f"error: {error.strerror or error}{where}{f' ({what})' if what else ''}"
    if isinstance(error, MemoryError):
        return 3, "error: out of memory; end other programs, or work on smaller blocks or batches"
    if died:
        return (
            3,
            "error: a process that reads images has died, perhaps for want of memory; try fewer with --workers",
        )
    what = f"unexpected {type(error).__name__}: {error}"
    return 1, f"error: {what} (--debug shows where; please report it)"


def _left_by_reader(error: BaseException | None) -> bool:
    """Tell whether the reader of a pipe has closed it, which click and rich turn into an exit."""
    while isinstance(error, SystemExit):
        error = error.__context__
    return isinstance(error, BrokenPipeError)


def _finish(line: str) -> None:
    """Print the line, and keep streams that cannot be written to from failing once more as Python ends."""
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
