"""What every head is built from: options, rows, state, and the base classes of families."""

from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import FitContext, State
from featood.heads.base.head import Head
from featood.heads.base.logit_head import LogitHead

__all__ = ["FeatureHead", "FitContext", "Head", "LogitHead", "State"]
