"""What a batch of a stream has shown."""

from __future__ import annotations

__all__ = ["FIGURES", "Report"]

from typing import Any, NamedTuple

from featood.pipeline.monitoring.diagnosis import Diagnosis
from featood.pipeline.monitoring.state import Alarm


class Report(NamedTuple):
    """What a batch has shown; None where there are too few rows, or no reference rows."""

    batch: int
    """Number of the batch, from 1."""
    rows: int
    """Images that could be read."""
    unread: int
    """Images that could not."""
    out: int
    """Rows above the threshold."""
    low: float | None
    """Lower end of the 95 % interval of their share, for this batch alone (Clopper and Pearson)."""
    high: float | None
    """Its upper end."""
    all_rows: int
    """Rows of all batches."""
    all_out: int
    """Those above the threshold."""
    all_low: float | None
    """Lower end of the 95 % interval of their share, which may be looked at after each batch."""
    all_high: float | None
    """Its upper end."""
    log_capital: float
    """Logarithm of the highest capital of the bets in this batch."""
    scores_p: float | None
    """P-value of a test of Kolmogorov and Smirnov that the scores are those of the calibration set."""
    moved: float | None
    """Share of features that differ from those of the reference rows."""
    mmd: float | None
    """Maximum mean discrepancy between the features and those of the reference rows, squared; of the last rows of the
    batch, at most as many as there are reference rows."""
    mmd_p: float | None
    """Its p-value. As of all tests of one batch, some are small among many batches."""
    alarm: Alarm | None = None
    """The alarm, in this batch or an earlier one."""
    diagnosis: Diagnosis | None = None
    """What has changed since the change that the alarm noticed."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as written by ``featood monitor --json``."""
        nested = {"alarm": self.alarm, "diagnosis": self.diagnosis}
        return {**self._asdict(), **{name: part and part._asdict() for name, part in nested.items()}}


FIGURES = Report._fields[: Report._fields.index("alarm")]
"""The figures that the history has of each batch."""
