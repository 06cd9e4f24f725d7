"""Import of hypothesis, with a message if it is missing."""

from __future__ import annotations

__all__ = ["hypothesis", "st", "stateful"]

try:
    import hypothesis
    from hypothesis import stateful
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "these tests need hypothesis, which is not installed: pip install 'featood[testing]'"
    ) from error
