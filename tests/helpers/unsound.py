"""Shared code of the tests of the conformance suite: faulty heads, and an assertion that a check detects them."""

from typing import Any

import pytest

from featood.heads import registry
from featood.heads.base.feature_head import FeatureHead
from featood.heads.registry import register
from featood.testing import check_head, iter_checks

CARD: dict[str, Any] = {"title": "A head", "paper": "Nobody, Nothing, Nowhere", "year": 2000}
CHECKS = {check.name: check for check in iter_checks()}


def head(needs=("features",), **card):
    registry._REGISTRY.pop("broken", None)  # replaces the previous one
    return register("broken", needs=needs, **{**CARD, **card})


def broken(check: str, kind: type, *words: str) -> None:
    """Assert that the check fails and names the fault."""
    with pytest.raises(AssertionError) as caught:
        CHECKS[check](kind)
    for word in ("broken", CHECKS[check].promise, *words):
        assert word in str(caught.value)
    with pytest.raises(AssertionError):
        check_head(kind)


class Distance(FeatureHead):
    """Score the distance to the mean."""

    def fit_state(self, train):
        return {"mean": self.vectors(train.load()).double().mean(0)}

    def score_block(self, block, fitted):
        return (self.vectors(block).double() - fitted["mean"]).norm(dim=1)
