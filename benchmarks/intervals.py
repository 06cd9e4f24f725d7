"""Coverage of 95 % intervals on samples of two Gaussians, whose AUROC and FPR95 are known exactly.

    python benchmarks/intervals.py [--samples 1000] [--only delong]

ID scores are N(0, 1), OOD scores N(d, 1) with d determined by the AUROC. Columns, in % of samples whose interval
contains the true value:

- ``delong``, ``bootstrap``: AUROC, by DeLong's variance on the logit scale, and by percentiles of resamples.
- ``difference``: AUROC of one head minus that of another with more noise, on the same rows, by DeLong's variance.
- ``fpr95``: by percentiles of resamples of both ID and OOD.
- ``at threshold``: exact binomial interval versus the share of all OOD accepted at the threshold of the sample.
- ``as fpr95``: the same interval versus FPR95, whose threshold accepts 95 % of all ID.

``separable`` is the share of samples with an AUROC of 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import save, show
from scipy.special import ndtr, ndtri

from featood.metrics import (
    bootstrap_intervals,
    delong_difference,
    delong_interval,
    fpr_interval,
)
from featood.reporter import TerminalReporter
from featood.speed.environment import environment

SIZES = ((50, 50), (200, 200), (1000, 1000), (1000, 100))
AUROCS = (0.75, 0.95, 0.99)
NOISE = 0.5, 0.8
"""Standard deviation of the noise that each of two heads adds to a shared score."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", choices=("delong", "bootstrap"), help="only one kind of interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the figures as JSON")
    given = parser.parse_args()
    rows = []
    with TerminalReporter() as reporter:
        for (n_id, n_ood), auroc in ((size, auroc) for size in SIZES for auroc in AUROCS):
            rng = np.random.default_rng([given.seed, n_id, n_ood, round(1000 * auroc)])
            what = f"{n_id} and {n_ood} rows, AUROC {auroc}"
            covered: dict[str, list[bool]] = {}
            for sample in range(given.samples):
                reporter.progress(what, sample, given.samples)
                for name, inside in one_sample(rng, n_id, n_ood, auroc, given.resamples, given.only):
                    covered.setdefault(name, []).append(inside)
            shares = {name: round(100 * float(np.mean(values)), 1) for name, values in covered.items()}
            rows.append({"ID rows": n_id, "OOD rows": n_ood, "AUROC": auroc, **shares})
    show(f"Share of {given.samples} samples whose 95 % interval contains the true value, in %", rows)
    save(given.json, environment("scipy"), coverage=rows)


def one_sample(
    rng: np.random.Generator,
    n_id: int,
    n_ood: int,
    auroc: float,
    resamples: int = 1000,
    only: str | None = None,
) -> Iterator[tuple[str, bool]]:
    """Draw a sample, and yield for each interval whether it contains the true value."""
    apart = float(ndtri(auroc)) * 2**0.5
    id_scores, ood_scores = rng.normal(size=n_id), rng.normal(apart, 1, n_ood)
    fpr95 = float(ndtr(ndtri(0.95) - apart))
    if only != "bootstrap":
        yield "delong", _contains(delong_interval((id_scores, ood_scores)), auroc)
        heads = [
            (id_scores + rng.normal(0, noise, n_id), ood_scores + rng.normal(0, noise, n_ood))
            for noise in NOISE
        ]
        truths = [float(ndtr(apart / (2 * (1 + noise**2)) ** 0.5)) for noise in NOISE]
        yield "difference", _contains(delong_difference(*heads), truths[0] - truths[1])
        at_threshold = fpr_interval(id_scores, ood_scores)
        threshold = np.quantile(id_scores, 0.95, method="inverted_cdf")
        yield "at threshold", _contains(at_threshold, float(ndtr(threshold - apart)))
        yield "as fpr95", _contains(at_threshold, fpr95)
    if only != "delong":
        found = bootstrap_intervals(id_scores, ood_scores, ("auroc", "fpr95"), resamples, generator=rng)
        yield "bootstrap", _contains(found["auroc"], auroc)
        yield "fpr95", _contains(found["fpr95"], fpr95)
    yield "separable", bool(id_scores.max() < ood_scores.min())


def _contains(interval: Any, truth: float) -> bool:
    """Whether an interval contains a value."""
    return bool(interval.low <= truth <= interval.high)


if __name__ == "__main__":
    main()
