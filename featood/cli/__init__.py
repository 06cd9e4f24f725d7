"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

__all__ = ["main"]

import sys


def main() -> None:
    """Entry point of ``featood``."""
    from featood.cli.process import Signals, guarded, mend_streams

    def run() -> None:
        from featood.cli.root import root

        root(standalone_mode=False)

    mend_streams()
    signals = Signals()
    signals.install()
    sys.exit(guarded(run, signals))
