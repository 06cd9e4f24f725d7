"""Signals, closed streams, encodings and pipes, tested with real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0" / "zarr"
LS = [sys.executable, "-m", "featood", "cache", "ls", "--cache", str(GOLDEN)]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and descriptors of POSIX")
GUARDED = """
import sys, time
from featood.cli.process import Signals, guarded, repair_streams
repair_streams()
signals = Signals()
signals.install()
def work():
    {work}
sys.exit(guarded(work, signals))
"""


def start(work, ignored=(), **options):
    """Start a command, optionally with signals ignored like in background jobs of a shell script."""

    def prepare():
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, "-c", GUARDED.format(work=work)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV, preexec_fn=prepare, **options,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_the_command_orderly(number):
    process = start("""
    try:
        print("ready", flush=True)
        time.sleep(100)
    finally: print("cleaned")""")
    process.send_signal(number)
    code, out, err = ended(process)
    assert code == 130 and out == "cleaned\n"
    assert err.count("\n") == 1 and "run the same command again" in err


@POSIX
def test_sigterm_ends_a_command_that_ignores_sigint():
    process = start("print('ready', flush=True); time.sleep(100)", ignored=[signal.SIGINT])
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    process.terminate()
    code, _, err = ended(process)
    assert code == 130 and "interrupted" in err and "Traceback" not in err


@POSIX
def test_a_signal_in_generated_code(tmp_path):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(
        "import sys, featood.cli.root as commands\n"
        "from featood.cli.process import main\n"
        "commands.root = lambda **_: exec('raise KeyboardInterrupt')\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "program"], cwd=tmp_path, env=ENV, capture_output=True, text=True
    )
    assert done.returncode == 130, done.stderr


@POSIX
def test_a_second_signal_ends_the_command_immediately():
    process = start("""
    try:
        print("ready", flush=True)
        time.sleep(100)
    finally:
        print("cleaning", flush=True)
        time.sleep(100)""")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130 and "Traceback" not in err


@POSIX
def test_a_swallowed_signal_is_not_sent_again_after_the_end():
    """An interruption that is swallowed in one place and passed on in another counts once."""
    process = start("""
    class Slow:
        def __del__(self):
            raise KeyboardInterrupt
    try:
        print("ready", flush=True)
        time.sleep(100)
    finally: Slow()""")
    process.terminate()
    code, _, err = ended(process)
    assert code == 130 and err.count("interrupted") == 1 and err.count("\n") == 1


@POSIX
def test_a_signal_where_nothing_can_be_raised_is_not_lost():
    process = start("""
    class Slow:
        def __del__(self):
            print("ready", flush=True)
            time.sleep(100)
    Slow()
    time.sleep(100)""")
    process.terminate()
    code, _, err = ended(process)
    assert code == 130 and "interrupted" in err and "Traceback" not in err and "ignored" not in err


@POSIX
@pytest.mark.parametrize("late", [0.0, 0.3])
def test_a_worker_ended_by_the_signal_is_an_interruption(late):
    """The error about the dead worker may be raised before the command receives the signal."""
    process = start("""
    try:
        print("ready", flush=True)
        time.sleep(0.2)
    finally: raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Terminated. ")""")
    time.sleep(late)
    process.terminate()
    code, _, err = ended(process)
    assert code == 130 and "interrupted" in err and "unexpected" not in err


def test_a_dead_worker_is_reported_in_one_line(featood, monkeypatch):
    def died(*_):
        raise RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly")

    monkeypatch.setattr("featood.cache.open_cache", died)
    code, _, err = featood("cache", "ls")
    assert code == 3 and err.count("\n") == 1 and "--workers" in err


@POSIX
def test_a_background_job_ends_with_its_workers(tmp_path):
    from PIL import Image

    folder = tmp_path / "images" / "pets" / "train"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for row in range(400):
            Image.fromarray(np.full((8, 8, 3), row % 200, np.uint8)).save(folder / label / f"{row}.png")
    command = [
        sys.executable, "-m", "featood", "extract", "--backbone", "cifar-resnet20", "--weights", "random",
        "--dataset", str(tmp_path / "images" / "pets"), "--image-size", "32", "--workers", "2", "--batch-size", "1",
        "--name", "net", "--cache", str(tmp_path / "cache"),
    ]  # fmt: skip

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV,
        start_new_session=True, preexec_fn=ignore,
    ) as process:  # fmt: skip
        ends = time.monotonic() + 120
        while not list((tmp_path / "cache").glob("*/*/*/manifest.json")) and time.monotonic() < ends:
            time.sleep(0.02)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "same command again" in err and "unexpected" not in err and "Traceback" not in err


@POSIX
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "2>/dev/full"])
def test_closed_streams_are_not_an_error(closed):
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *LS], capture_output=True, text=True, env=ENV, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ("net/toy/train" in done.stdout) is (not closed.startswith(">"))


@POSIX
def test_opened_files_do_not_replace_a_closed_standard_output(tmp_path):
    script = f"open({str(tmp_path / 'data')!r}, 'w'); print('stray'); import os; os.write(1, b'stray')"
    code = f"from featood.cli.process import repair_streams; repair_streams(); {script}"
    subprocess.run(["sh", "-c", '"$@" >&-', "sh", sys.executable, "-c", code], check=True, env=ENV)
    assert (tmp_path / "data").read_bytes() == b""


@POSIX
def test_standard_output_on_a_full_disk_gives_one_line():
    done = subprocess.run(
        ["sh", "-c", '"$@" >/dev/full', "sh", *LS], capture_output=True, text=True, env=ENV, check=False
    )
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr


@POSIX
@pytest.mark.parametrize("words", [LS, [*LS[:3], "--help"]])
def test_a_closed_pipe_is_not_an_error(words):
    source, sink = os.pipe()
    os.close(source)
    done = subprocess.run(words, stdout=sink, stderr=subprocess.PIPE, text=True, env=ENV, check=False)
    os.close(sink)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize(
    "narrow",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1", "NO_COLOR": "1", "TERM": "dumb"},
    ],
)
def test_characters_missing_in_the_encoding_are_replaced(tmp_path, narrow):
    unknown = [*LS[:4], "rm", "日本/ü/x", "--cache", str(tmp_path)]
    for command, code in ((LS, 0), (unknown, 3)):
        done = subprocess.run(command, capture_output=True, env={**ENV, **narrow}, check=False)
        assert done.returncode == code, done.stderr
        assert b"unexpected" not in done.stderr and b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout + done.stderr


def test_debug_shows_the_traceback_and_keeps_the_code(featood):
    code, _, err = featood("--debug", "cache", "verify", "a/b/c")
    assert (
        code == 3 and "Traceback" in err and err.strip().splitlines()[-1].startswith("error: a/b/c is not in")
    )
