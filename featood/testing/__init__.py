"""The promises that every head keeps, as checks for any head: ``check_head("mahalanobis")``."""

from featood.testing.check import Check, Subject
from featood.testing.fixture import synthetic_sets
from featood.testing.suite import check_head, iter_checks

__all__ = ["Check", "Subject", "check_head", "iter_checks", "synthetic_sets"]
