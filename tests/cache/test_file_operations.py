"""All writes of the package go through one module, and are complete or absent."""

import ast
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from featood import files
from featood.files import (
    append_line,
    atomic_write,
    create,
    folders_below,
    lock,
    make_folder,
    remove,
    scratch_folder,
    size_of,
    unlock,
)

PACKAGE = Path(files.__file__).parent
WRITERS = {
    *(
        "write_text",
        "write_bytes",
        "unlink",
        "mkdir",
        "rmdir",
        "rename",
        "touch",
        "symlink_to",
        "hardlink_to",
    ),
    *(
        "rmtree",
        "copytree",
        "copyfile",
        "copy2",
        "move",
        "memmap",
        "open_memmap",
        "tofile",
        "savetxt",
        "save_file",
    ),
    *("makedirs", "renames", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory"),
}
OS = {"replace", "remove", "open", "link", "symlink", "truncate", "mkfifo", "chmod", "fsync"}


def writes(node: ast.AST) -> bool:
    """Whether a call writes to the file system itself; np.save and similar functions get files from ``create``."""
    if not isinstance(node, ast.Call) or "devnull" in ast.unparse(node):
        return False
    name = node.func
    if isinstance(name, ast.Attribute):
        if ast.unparse(name.value) == "formatter":  # of a help page
            return False
        return name.attr in WRITERS or (ast.unparse(name.value) == "os" and name.attr in OS)
    if isinstance(name, ast.Name) and name.id == "open":
        modes = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "mode")]
        return any(set(ast.unparse(mode)) & set("wxa+") for mode in modes)
    return False


def test_no_other_module_writes_files():
    for path in PACKAGE.rglob("*.py"):
        if path.name != "files.py" or path.parent != PACKAGE:
            if path.parent.name == "testing":  # which uses temporary folders
                continue
            found = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if writes(node)]
            found = [call for call in found if "'/proc/" not in call]  # a switch of the kernel, not a file
            assert not found, f"{path.relative_to(PACKAGE)} writes files past featood.files: {found[0]}"


EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


def test_all_writes_of_commands_come_from_that_module(featood, script, tmp_path, toy_images):
    """Libraries must not write either: an audit hook reports the caller of every write."""
    watching, past = [True], []

    def audit(event, arguments):
        if not watching or not (event in EVENTS or (event == "open" and isinstance(arguments[2], int))):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = arguments[0] if isinstance(arguments[0], str) else os.fspath(arguments[0])
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename != files.__file__:
            frame = frame.f_back
        if str(tmp_path) in str(path) and frame is None:
            past.append((event, path))

    (tmp_path / "net.py").write_text(script("commands").NET)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 4)))
    out = str(tmp_path / "out")
    sys.addaudithook(audit)
    try:
        for store in ("zarr", "hdf5"):
            how = ("--backbone", f"python:{tmp_path}/net.py:make", "--name", store, "--store", store)
            code, _, err = featood("extract", *how, "--dataset", "toy", "--workers", 0)
            assert code == 0, err
        lines = (
            ("import", "--backbone", "v", "--dataset", "w", "--split", "train", "--features", tmp_path / "x.npy"),
            ("fit", "nce", "--backbone", "zarr", "--dataset", "toy", "--epochs", 1),
            ("score", "--backbone", "zarr", "--head", "nce", "--ood", "odd", "--code", f"python:{tmp_path}/net.py:make",
             "--json", f"{out}/r.json", "--csv",
             f"{out}/r.csv", "--scores", f"{out}/r.parquet", "--report", f"{out}/r.html"),
            ("cache", "join", "both", "zarr", "hdf5", "--dataset", "toy"),
            *(("cache", "export", "zarr/toy/test", f"{out}/{form}", "--format", form) for form in ("npy", "hdf5")),
            ("cache", "gc", "--incomplete", "--older-than", 0),
        )  # fmt: skip
        for line in lines:
            code, _, err = featood(*line)
            assert code == 0, err
    finally:
        watching.clear()
    assert not past


def test_no_command_needs_modules_of_unix(tmp_path):
    """Import, fit and score without the modules that Windows lacks."""
    rng = np.random.default_rng(0)
    for name in ("train", "test", "odd"):
        np.save(tmp_path / f"{name}.npy", rng.normal(name == "odd", 1, (30, 4)))
    code = f"""
    import sys
    GONE = {{"fcntl", "resource", "pwd", "grp", "termios"}}
    class Blocked:
        def find_spec(self, name, *_):
            if name in GONE:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    sys.meta_path.insert(0, Blocked())
    for name in GONE:
        sys.modules.pop(name, None)
    from featood.cli.root import root
    def run(*words):
        root([*words, "--cache", r"{tmp_path}/cache"], standalone_mode=False)
    for dataset, split in (("w", "train"), ("w", "test"), ("odd", "test")):
        file = rf"{tmp_path}/{{'odd' if dataset == 'odd' else split}}.npy"
        where = ("--dataset", dataset, "--split", split)
        for store in ("zarr", "hdf5"):
            run("import", "--backbone", store, *where, "--features", file, "--store", store)
    run("fit", "knn", "--backbone", "zarr", "--dataset", "w", "--k", "3")
    run("score", "--backbone", "zarr", "--dataset", "w", "--ood", "odd", "--json", r"{tmp_path}/r.json")
    run("cache", "gc", "--older-than", "0")
    assert not GONE & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.json").exists()


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "deep" / "file"
    atomic_write(path, b"one")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"one" and os.listdir(path.parent) == ["file"]
    long = tmp_path / ("x" * 255)
    atomic_write(long, b"two")
    assert long.read_bytes() == b"two"


def test_a_line_takes_the_place_of_one_that_a_kill_left_unfinished(tmp_path):
    path = tmp_path / "new" / "lines"
    append_line(path, "é")
    append_line(path, "two")
    assert path.read_text("utf-8") == "é\ntwo\n"
    path.write_text("one\ntw", "utf-8")
    append_line(path, "three")
    assert path.read_text("utf-8") == "one\nthree\n"
    path.write_text("on", "utf-8")
    append_line(path, "one")
    assert path.read_text("utf-8") == "one\n"


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "target"
    with pytest.raises(ZeroDivisionError), scratch_folder(target) as scratch:
        create(scratch / "file").close()
        raise ZeroDivisionError
    assert not os.listdir(tmp_path / "deep")
    target.mkdir()
    with scratch_folder(target) as scratch, create(scratch / "sub" / "file") as file:
        file.write(b"x")
        assert not os.listdir(target)
    assert (target / "sub" / "file").read_bytes() == b"x"
    with pytest.raises(OSError), scratch_folder(target) as scratch:
        create(scratch / "other").close()
    assert os.listdir(target) == ["sub"] and os.listdir(tmp_path / "deep") == ["target"]


def test_removing_does_not_follow_links(tmp_path):
    make_folder(tmp_path / "kept" / "inner")
    make_folder(tmp_path / "gone" / "inner")
    (tmp_path / "gone" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("gone", "dangling", "never"):
        remove(tmp_path / name)
    assert os.listdir(tmp_path) == ["kept"] and os.listdir(tmp_path / "kept") == ["inner"]


def test_an_undetermined_existence_is_an_error(tmp_path, monkeypatch):
    atomic_write(tmp_path / "a" / "b" / "file", b"abc")
    assert size_of(tmp_path / "a" / "b" / "file") == 3
    assert size_of(tmp_path / "a") is None and size_of(tmp_path / "a" / "b" / "file" / "x") is None
    assert folders_below(tmp_path, 2) == [tmp_path / "a" / "b"] and folders_below(tmp_path / "no", 3) == []

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(PermissionError):
        size_of(tmp_path / "a" / "b" / "file")
    monkeypatch.undo()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        folders_below(tmp_path, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_belongs_to_one_process_and_ends_with_it(tmp_path):
    path = tmp_path / ".lock"
    held = lock(path)
    assert held is not None and lock(path) is None
    unlock(held)
    ready, tell = os.pipe()
    if (child := os.fork()) == 0:
        kept = lock(path)
        os.write(tell, b"y" if kept is not None else b"n")
        signal.pause()
    assert os.read(ready, 1) == b"y" and lock(path) is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert lock(path) is not None


def test_a_file_system_without_locks_grants_every_lock(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    import errno

    def answer(code):
        def flock(*_):
            raise OSError(code, os.strerror(code))

        return flock

    monkeypatch.setattr(fcntl, "flock", answer(errno.ENOLCK))
    assert lock(tmp_path / "a") is not None and lock(tmp_path / "a") is not None
    monkeypatch.setattr(fcntl, "flock", answer(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        lock(tmp_path / "b")
    monkeypatch.setattr("filelock.FileLock.acquire", Mock(side_effect=NotImplementedError))  # some versions
    assert lock(tmp_path / "c") is not None


def test_a_failing_release_of_a_lock_is_harmless(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    real, refusals = fcntl.flock, [OSError(5, "Input/output error")]

    def flock(handle, operation):
        if operation == fcntl.LOCK_UN and refusals:
            raise refusals.pop()
        return real(handle, operation)

    held = lock(tmp_path / ".lock")
    monkeypatch.setattr(fcntl, "flock", flock)
    unlock(held)
    assert not refusals
    again = lock(tmp_path / ".lock")
    assert again is not None
    unlock(again)


def test_a_folder_that_another_process_makes_first_is_taken(tmp_path, monkeypatch):
    def mkdir(path, real=os.mkdir):
        real(path)
        real(path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    make_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()

    def file_instead(path):
        Path(path).touch()
        raise FileExistsError(17, "File exists", path)

    monkeypatch.setattr(os, "mkdir", file_instead)
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "b")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic_write(pipe, b"abc")
    assert os.read(reader, 9) == b"abc" and os.listdir(tmp_path) == ["pipe"]
    os.close(reader)


def test_a_single_folder_takes_the_place_of_what_contains_it(tmp_path):
    for names in (("only/file",), ("one/file", "two/file"), ("file",)):
        with scratch_folder(tmp_path / "target", unwrap=True) as scratch:
            for name in names:
                create(scratch / name).close()
        found = sorted(
            path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
        )
        assert found == [f"target/{name.removeprefix('only/')}" for name in names]
        remove(tmp_path / "target")


def test_what_another_process_removes_at_the_same_time_is_removed(tmp_path, monkeypatch):
    make_folder(tmp_path / "gone" / "inner")
    real = files.shutil.rmtree

    def rmtree(path):
        real(path)
        raise FileNotFoundError

    monkeypatch.setattr(files.shutil, "rmtree", rmtree)
    remove(tmp_path / "gone")
    assert not os.listdir(tmp_path)


def test_a_lock_that_is_never_given_back_is_no_error(tmp_path):
    class Held:
        def release(self, force):
            raise OSError(5, "Input/output error")

    unlock(Held())


def test_folders_are_synced_where_the_system_can(tmp_path, monkeypatch):
    import errno

    def refuse(code):
        def fsync(handle):
            if os.path.isdir(f"/proc/self/fd/{handle}"):
                raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    atomic_write(tmp_path / "a", b"1")
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        atomic_write(tmp_path / "b", b"2")
    monkeypatch.setattr(files.os, "name", "nt")
    files._sync_folder(tmp_path)


def test_a_folder_that_cannot_be_read_is_not_taken_for_synced(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError), scratch_folder(tmp_path / "target") as scratch:
        create(scratch / "file").close()
        monkeypatch.setattr(os, "scandir", scandir)
