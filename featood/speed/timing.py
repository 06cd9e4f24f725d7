"""Time and peak memory of functions: in a process of its own, or in turn."""

from __future__ import annotations

__all__ = ["in_process", "in_turn", "peak_bytes", "reset_peak", "seconds", "timed"]

import contextlib
import ctypes
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

START = 300.0
"""Maximum seconds for loading libraries and making data."""


def seconds(run: Callable[[], Any], repeat: int = 3, budget: float = 5.0) -> tuple[float, Any]:
    """Return the minimum wall time of several runs (fewer if they exceed the budget), and the last result."""
    times: list[float] = []
    result = None
    while len(times) < repeat and sum(times) < budget:
        result = None  # frees the previous result, so that memory is not counted twice
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def timed(run: Callable[[], Any]) -> Callable[[], float]:
    """Return a function that runs another, and returns its wall time in seconds."""
    return lambda: seconds(run, 1)[0]


def in_turn(runs: Mapping[str, Callable[[], float]], rounds: int) -> list[dict[str, float]]:
    """Call functions in turn, so that other work on the machine slows all of them down alike.

    Parameters
    ----------
    runs : mapping of str to callable
        Functions that return their seconds, by name.
    rounds : int
        Number of times that each is called, after a first call that does not count.

    Returns
    -------
    list of dict
        The seconds of each, for each round.
    """
    return [{name: run() for name, run in runs.items()} for _ in range(rounds + 1)][1:]


def in_process(work: Callable[..., None], *arguments: Any, cap: float) -> dict[str, Any]:
    """Run a function in a new process, and stop it if a step takes longer than the cap.

    Parameters
    ----------
    work : callable
        Called as ``work(pipe, *arguments)``. It sends pairs of name and value: ``ready`` when the measurement begins,
        then each figure as soon as it is known, and ``done`` at the end.
    cap : float
        Maximum seconds between two pairs.

    Returns
    -------
    dict
        What it sent, and ``error`` if it did not finish.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_guarded, args=(there, work, arguments), daemon=True)
    process.start()
    there.close()
    found: dict[str, Any] = {}
    try:
        while "done" not in found and "error" not in found:
            if not here.poll(cap if "ready" in found else START):
                found["error"] = f"over {cap:g} s"
                break
            name, value = here.recv()
            found[name] = value
    except EOFError:
        found["error"] = "killed"
    process.terminate()
    process.join()
    return found


def _guarded(pipe: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        work(pipe, *arguments)
        pipe.send(("done", True))
    except Exception as error:  # a crash is a result
        pipe.send(("error", f"{type(error).__name__}: {error}".split("\n")[0][:80]))


def reset_peak() -> int:
    """Reset the peak memory, if the system supports it, and return the current memory in bytes."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # memory freed by the warm-up would otherwise be reused unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_bytes()
    return _status("VmRSS")


def peak_bytes() -> int:
    """Return the peak memory since the start or the last reset, in bytes."""
    try:
        return _status("VmHWM")
    except OSError:
        import resource

        unit = 1 if os.uname().sysname == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
