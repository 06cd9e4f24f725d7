import functools

import pytest

from featood.heads import list_heads
from featood.testing import Check, Subject, iter_checks


@functools.cache
def subject(name: str) -> Subject:
    return Subject.of(name)


@pytest.mark.parametrize("name", list_heads())
@pytest.mark.parametrize("check", iter_checks(), ids=str)
def test_head(check: Check, name: str):
    check(subject(name))
