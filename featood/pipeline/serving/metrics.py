"""Metrics of the service, in the format of Prometheus."""

from __future__ import annotations

__all__ = ["Metrics"]

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

SHARES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts of answers, times, sizes of batches, and what was decided.

    The p-values of in-distribution images are uniform; a histogram that is not shows that the images have changed.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "featood_answers", "Answers of /predict by status", ["status"], registry=self.registry
        )
        self.seconds = Histogram("featood_seconds", "Seconds to answer /predict", registry=self.registry)
        self.batch = Histogram(
            "featood_batch_images", "Images in a batch", buckets=BATCHES, registry=self.registry
        )
        self.out = Counter("featood_out", "Images that are out-of-distribution", registry=self.registry)
        self.p_values = Histogram(
            "featood_p_value", "P-values of the images", buckets=SHARES, registry=self.registry
        )

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self.registry)
