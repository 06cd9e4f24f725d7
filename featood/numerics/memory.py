"""Available memory, to reject computations that do not fit before they start."""

from __future__ import annotations

__all__ = ["available_memory", "by_chunks", "require_memory"]

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from featood.errors import UsageError

MEMINFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")
ON_DEVICE = 32
"""Factor of the size of parts on other devices than the CPU: a GPU has no cache to fit, and needs time to start."""


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Return the number of bytes available to a computation on a device, or None if unknown.

    On the CPU, this is the smaller of the memory available according to the kernel and the memory left in the control
    group of the process; on systems without these files, the total memory.
    """
    if (device := torch.device(device)).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min((size for size in (_kernel(), _control_group()) if size is not None), default=None)


def require_memory(needed: int, what: str, advice: str, device: torch.device | str = "cpu") -> None:
    """Raise if a computation needs more memory than is available.

    Parameters
    ----------
    needed : int
        Peak number of bytes, none of which is allocated yet.
    what, advice : str
        Start and end of the message: what needs the memory (plural), and what to do about it.
    device : torch.device
        Device of the computation.

    Raises
    ------
    UsageError
        If `needed` exceeds :func:`available_memory`.
    """
    available = available_memory(device)
    if available is not None and needed > available:
        raise UsageError(
            f"{what} need {needed / 2**30:.1f} GiB, but {available / 2**30:.1f} GiB of memory are available; {advice}"
        )


def by_chunks(function: Callable[..., Tensor], size: int, *tensors: Tensor) -> Tensor:
    """Apply a function of rows to at most `size` rows at a time, which limits its temporaries, and join the results.

    While a graph is traced, it is applied to all rows at once, as their number is not known.

    Parameters
    ----------
    function : callable
        Function of one part of each tensor that returns a value for each row.
    size : int
        Number of rows of a part on the CPU; `ON_DEVICE` times as many elsewhere.
    *tensors : Tensor
        Tensors with the same number of rows.
    """
    if torch.compiler.is_compiling():
        return function(*tensors)
    size *= 1 if tensors[0].is_cpu else ON_DEVICE
    return torch.cat(
        [function(*parts) for parts in zip(*(values.split(size) for values in tensors), strict=True)]
    )


def _kernel() -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _control_group() -> int | None:
    try:
        limit, used = (
            (CONTROL_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current")
        )
        return max(int(limit) - int(used), 0)
    except (OSError, ValueError):  # no control group, or no limit ("max")
        return None
