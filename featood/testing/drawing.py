"""Hypothesis, or one line that says how to get it."""

from __future__ import annotations

__all__ = ["hypothesis", "st", "stateful"]

try:
    import hypothesis
    from hypothesis import stateful
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "hypothesis is missing, which draws inputs for these tests: pip install 'featood[testing]'"
    ) from error
