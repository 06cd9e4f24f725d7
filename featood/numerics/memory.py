"""How much memory a machine has left, so that what cannot fit is refused before it is begun."""

from __future__ import annotations

__all__ = ["available_memory", "require_memory"]

import os
from pathlib import Path

import torch

from featood.errors import UsageError

MEMINFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Return the bytes that a computation on a device may still take; None where the system does not tell.

    On the CPU that is what the kernel calls available, or what the process's control group leaves where that is less;
    on systems without these files, all the memory there is.
    """
    if (device := torch.device(device)).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min((size for size in (_kernel(), _control_group()) if size is not None), default=None)


def require_memory(needed: int, what: str, advice: str, device: torch.device | str = "cpu") -> None:
    """Refuse a computation that takes more memory than there is.

    Parameters
    ----------
    needed : int
        Bytes at its peak, of which nothing is taken yet.
    what, advice : str
        Ends of the message: what takes so much, and what to do about it.
    device : torch.device
        Where it is to run.

    Raises
    ------
    UsageError
        When `needed` exceeds :func:`available_memory`.
    """
    available = available_memory(device)
    if available is not None and needed > available:
        raise UsageError(
            f"{what} take {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are available; {advice}"
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
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
