"""Decorator that checks signatures in the tests; ``conftest.py`` applies it to the packages of array functions."""

from typing import Self

from beartype import BeartypeConf, BeartypeHintOverrides, beartype

# As for type checkers, an int is accepted as a float. Functions are decorated individually, so Self is unknown and not
# checked.
_CONF = BeartypeConf(is_pep484_tower=True, hint_overrides=BeartypeHintOverrides({Self: object}))
checked = beartype(conf=_CONF)
