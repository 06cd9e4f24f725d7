"""What every head is built from: options, rows, state, and the base classes of families."""

from featood.heads.base.head import FeatureHead, FitContext, Head, LogitHead, State

__all__ = ["FeatureHead", "FitContext", "Head", "LogitHead", "State"]
