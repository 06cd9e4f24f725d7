"""Messages about files of weights that are not read, and what to do."""

from __future__ import annotations

__all__ = ["refusal"]

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

_RUNS_PROGRAMS = (
    "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "pty", "ctypes", "pickle",
    "builtins", "eval", "exec", "compile", "getattr", "setattr", "open", "__import__", "breakpoint", "input",
)  # fmt: skip
# keeps every tensor under its name, and discards everything else
_KEEP = (
    'f = lambda v: v.state_dict() if hasattr(v, "state_dict") else '
    "{str(k): f(x) for k, x in v.items()} if isinstance(v, dict) else "
    "v if isinstance(v, (torch.Tensor, int, float, str)) else None"
)


def refusal(path: Path, reason: str) -> str:
    """Return one line about a file that a reader refused.

    Parameters
    ----------
    path : Path
        The file.
    reason : str
        The reader's message.
    """
    if "TorchScript" in reason:
        how = _convert(path, 'torch.jit.load({}, "cpu")')
        return f"{path}: a TorchScript archive, which is a program; {how}"
    load = f'torch.load({{}}, "cpu", weights_only={False})'
    if found := re.search(r"GLOBAL (\S+)", reason):
        what = found[1] if found[1].isprintable() else ascii(found[1])
        if what.split(".")[0] in _RUNS_PROGRAMS:
            return (
                f"{path}: refused, because loading it would call {what}, which files of weights do not need"
            )
        return f"{path}: refused, because it contains {what}, whose code would have to run; {_convert(path, load)}"
    if ".tar format" in reason or ("Unsupported operand" in reason and _is_pickle(path)):
        return f"{path}: written in a format that can only be read by running code; {_convert(path, load)}"
    return f"{path}: not a readable file of weights; it is damaged or of another kind"


def _is_pickle(path: Path) -> bool:
    """Whether it is an archive or a pickle of a later protocol, such as ``torch.save(..., pickle_protocol=4)``."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _convert(path: Path, load: str) -> str:
    out = path.with_name(f"{path.name.split('.')[0] or 'file'}.weights.pt")
    source, target = (json.dumps(str(name)) for name in (path, out))
    code = f"import torch; {_KEEP}; torch.save(f({load.format(source)}), {target})"
    join = subprocess.list2cmdline if os.name == "nt" else shlex.join
    return f"if you trust its source, convert it: {join(['python', '-c', code])}"
