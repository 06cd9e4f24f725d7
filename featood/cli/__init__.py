"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

__all__ = ["main"]

import sys


def main() -> None:
    """Entry point of ``featood``."""
    from featood.cli.common import guarded
    from featood.cli.root import root

    sys.exit(guarded(lambda: root(standalone_mode=False)))
