"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

__all__ = ["main"]

from featood.cli.process import main
