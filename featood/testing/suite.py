"""All checks."""

from __future__ import annotations

__all__ = ["check_head", "iter_checks"]

from collections.abc import Iterator
from typing import Any

from featood.heads.base.head import Head
from featood.testing import artefacts, fits, scores
from featood.testing.check import Check, Subject


def iter_checks() -> Iterator[Check]:
    """Iterate over the checks, which are called with a head's name, class or instance.

    Example
    -------
    In the tests of a plug-in::

        @pytest.mark.parametrize("check", featood.testing.iter_checks(), ids=str)
        def test_my_head(check):
            check("my-head")
    """
    for module in (scores, fits, artefacts):
        yield from (value for value in vars(module).values() if isinstance(value, Check))


def check_head(head: str | type[Head] | Head, **options: Any) -> None:
    """Run all checks on a head.

    Parameters
    ----------
    head : str, class or Head
        A name, a registered class, or a head with options, which is not fitted.
    **options
        Options of the head; they override the class's ``testing_options``.

    Raises
    ------
    AssertionError
        At the first check that fails, with the name of the head and the requirement.
    """
    subject = Subject.of(head, **options)
    for check in iter_checks():
        check(subject)
