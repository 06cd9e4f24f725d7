"""Monitoring: a detector that watches a stream, with a bound on its false alarms."""

from featood.pipeline.monitoring.diagnosis import Diagnosis
from featood.pipeline.monitoring.monitor import Monitor
from featood.pipeline.monitoring.reports import Report
from featood.pipeline.monitoring.state import Alarm

__all__ = ["Alarm", "Diagnosis", "Monitor", "Report"]
