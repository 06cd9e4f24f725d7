"""Devices by name, with a check that they exist."""

from __future__ import annotations

__all__ = ["pick_device"]

import torch

from featood.errors import UsageError


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; ``auto`` is the GPU if there is one, otherwise the CPU.

    Raises
    ------
    UsageError
        If the device does not exist.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device '{name}' cannot be used: {reason}; 'cpu' is always available") from None
    return device
