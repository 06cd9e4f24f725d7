"""The promises that every head keeps, as checks for any head: ``check_head("mahalanobis")``.

:mod:`featood.testing.strategies` draws inputs for property tests, :func:`featood.testing.properties.check_properties`
holds a head to them, and :mod:`featood.testing.stateful` drives a cache, in any store, beside a perfect model of it;
these need hypothesis (``pip install 'featood[testing]'``).
"""

from featood.testing.check import Check, Subject
from featood.testing.extras import example_sets
from featood.testing.fixture import synthetic_sets
from featood.testing.suite import check_head, iter_checks

__all__ = ["Check", "Subject", "check_head", "example_sets", "iter_checks", "synthetic_sets"]
