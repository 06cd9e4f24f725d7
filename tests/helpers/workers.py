"""Tests that share something expensive, for one worker of pytest-xdist."""

from collections.abc import Iterable

import pytest


def together(what: str, names: Iterable[str]) -> list:
    """Return parameters, of which equal ones go to the same worker with ``--dist loadgroup``."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(f"{what} {name}"), id=name) for name in names]
