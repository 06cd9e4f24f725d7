"""Check of signatures in the tests, applied to the packages of array functions by ``conftest.py``."""

from typing import Self

from beartype import BeartypeConf, BeartypeHintOverrides, beartype

# As type checkers have it, an int will do for a float. Functions are decorated one by one, where nothing says what
# Self is: it is not checked.
_CONF = BeartypeConf(is_pep484_tower=True, hint_overrides=BeartypeHintOverrides({Self: object}))
checked = beartype(conf=_CONF)
