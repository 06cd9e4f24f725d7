"""Checks of the requirements for heads, for any head: ``check_head("mahalanobis")``.

:mod:`featood.testing.strategies` generates inputs for property tests,
:func:`featood.testing.properties.check_properties` tests a head with them, and :mod:`featood.testing.stateful` compares
a cache with a model in memory, for any store; these need hypothesis (``pip install 'featood[testing]'``).
"""

from featood.testing.check import Check, Subject
from featood.testing.extras import example_sets
from featood.testing.fixture import synthetic_sets
from featood.testing.suite import check_head, iter_checks

__all__ = ["Check", "Subject", "check_head", "example_sets", "iter_checks", "synthetic_sets"]
