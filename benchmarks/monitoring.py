"""Alarms on streams: how often they are false, and how soon they notice a change, beside alarms that know it.

    python benchmarks/monitoring.py --cache feature_cache --backbone NAME --ood cifar100 --head knn

The in-distribution test rows are divided into calibration and stream; all rows of a run are distinct. Alarms:

- ``always``: raised at every row;
- ``KS of each batch``: a test at level alpha of each batch of 100 rows against the calibration rows;
- ``calibration only``: the bets of ``monitor`` on p-values that are ranked among the calibration rows only;
- ``monitor``: as :class:`featood.Monitor`;
- ``knows the scores``: knows the density of the p-values after the change (from half of the outliers, which are not in
  the stream) and the share of outliers, and bets on them; the change may begin at any row;
- ``knows scores and time``: also knows the row at which the change begins.
"""

from __future__ import annotations

__all__ = ["delays", "false_alarms", "main"]

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from common import save, show
from scipy import stats

from featood.cache import FeatureCache
from featood.decisions import Capital, bet, online_p_values, p_values
from featood.decisions.martingales import SLOWNESS
from featood.heads import create_head
from featood.pipeline.monitoring.advance import PARTS
from featood.pipeline.selection import select
from featood.speed.environment import environment

BATCH = 100


def false_alarms(streams: int, rows: int, calibration: int, alphas: Iterable[float]) -> list[dict[str, Any]]:
    """Return the share of in-distribution streams with any alarm, for each alarm and level."""
    highest: dict[str, list[float]] = {"monitor": [], "calibration only": []}
    smallest = []
    for number in range(streams):
        rng = np.random.default_rng([1, number])
        scores = rng.normal(size=calibration + rows)
        known, stream = np.sort(scores[:calibration]), scores[calibration:]
        highest["monitor"].append(_capital(online_p_values(known, stream, rng)[0]).max())
        highest["calibration only"].append(_capital(p_values(known, stream, rng)).max())
        smallest.append(_ks(known, stream).min())
    found = []
    for alpha in alphas:
        shares = {"always": 1.0, "KS of each batch": float((np.array(smallest) <= alpha).mean())}
        shares |= {name: float((np.array(most) >= -np.log(alpha)).mean()) for name, most in highest.items()}
        shares["knows scores and time"] = 0.0  # of a stream without a change, it knows that
        found += [
            {"alpha %": 100 * alpha, "alarm": name, "streams with any %": 100 * share}
            for name, share in shares.items()
        ]
    return found


def delays(
    inliers: np.ndarray, outliers: np.ndarray, mixing: float, alpha: float, runs: int, calibration: int, before: int,
    after: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return how many rows after a change each alarm is raised, and how often before."""
    found: dict[str, list[tuple[bool, float]]] = {}
    limit = -np.log(alpha)
    for number in range(runs):
        rng = np.random.default_rng([2, number])
        inside, outside = rng.permutation(inliers), rng.permutation(outliers)
        known, stream = (
            np.sort(inside[:calibration]),
            inside[calibration : calibration + before + after].copy(),
        )
        held = len(outside) // 2
        changed = before + np.flatnonzero(rng.random(after) < mixing)
        stream[changed] = outside[held : held + len(changed)]
        p = p_values(known, stream, rng)
        ratios = np.log1p(mixing * (_density(p_values(known, outside[:held], rng))(p) - 1))
        batches = np.zeros(len(stream), bool)
        batches[BATCH - 1 :: BATCH] = _ks(known, stream) <= alpha
        raised = {
            "always": np.ones(len(stream), bool),
            "KS of each batch": batches,
            "calibration only": _capital(p) >= limit,
            "monitor": _capital(online_p_values(known, stream, rng)[0]) >= limit,
            "knows the scores": _started_anywhere(ratios) >= limit,
            "knows scores and time": np.r_[np.zeros(before, bool), np.cumsum(ratios[before:]) >= limit],
        }
        for name, rows in raised.items():
            delay = 1 + int(rows[before:].argmax()) if rows[before:].any() else np.inf
            found.setdefault(name, []).append((bool(rows[:before].any()), delay))
    medians = {name: float(np.median([delay for _, delay in outcomes])) for name, outcomes in found.items()}
    return [
        {
            "mixing %": 100 * mixing,
            "alarm": name,
            "false before %": 100 * float(np.mean([early for early, _ in outcomes])),
            "noticed %": 100 * float(np.mean([delay <= after for _, delay in outcomes])),
            "median delay": medians[name],
            "mean delay": float(np.mean([min(delay, after) for _, delay in outcomes])),
            "/ knows the scores": medians[name] / medians["knows the scores"],
            "/ knows scores and time": medians[name] / medians["knows scores and time"],
        }
        for name, outcomes in found.items()
    ]


def _capital(p: np.ndarray) -> np.ndarray:
    return bet(Capital.initial(PARTS), p)[1]


def _ks(known: np.ndarray, stream: np.ndarray) -> np.ndarray:
    batches = stream[: len(stream) // BATCH * BATCH].reshape(-1, BATCH)
    return np.array([stats.ks_2samp(known, batch, method="asymp").pvalue for batch in batches])


def _density(p: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the density of p-values as a histogram whose bins become narrower towards 0."""
    edges = np.r_[0, np.geomspace(2e-3, 1, 25)]
    heights = (np.histogram(p, edges)[0] + 0.5) / (len(p) + 12.5) / np.diff(edges)
    return lambda values: heights[np.clip(np.searchsorted(edges, values) - 1, 0, len(heights) - 1)]


def _started_anywhere(ratios: np.ndarray) -> np.ndarray:
    """Return the log-capital of likelihood ratios that start at any row, staked as the monitor's capital is."""
    kept = np.log(SLOWNESS) / np.log(SLOWNESS + np.arange(len(ratios) + 1))
    grown = np.cumsum(ratios)
    started = np.log(kept[:-1] - kept[1:]) - np.r_[0, grown[:-1]]
    return np.logaddexp(np.log(kept[1:]), grown + np.logaddexp.accumulate(started))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--dataset", default="")
    parser.add_argument("--data-dir", default=os.environ.get("FEATOOD_DATA"))
    parser.add_argument("--ood", default="cifar100")
    parser.add_argument("--head", default="knn")
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--streams", type=int, default=200, help="0 leaves the first table out")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", default="")
    given = parser.parse_args()
    alarms: list[dict[str, Any]] = []
    if given.streams:
        alarms = false_alarms(given.streams, given.rows, 1000, (0.01, 0.05, 0.2))
        show(f"{given.streams} in-distribution streams of {given.rows} rows, 1000 calibration rows", alarms)
    cache = FeatureCache(given.cache)
    selection = select(cache, given.backbone, given.dataset, given.data_dir)
    train, test = (selection.open(split) for split in (selection.train_split(""), selection.test_split("")))
    name = next(
        name
        for name in cache
        if name.split("/")[1] == given.ood and name.split("/")[0] == test.name.split("/")[0]
    )
    head = create_head(given.head)
    if head.learns:
        head.fit(train)
    inliers, outliers = (np.asarray(head.score(rows), np.float64) for rows in (test, cache[name]))
    noticed = []
    for mixing, after in ((1.0, 400), (0.3, 1000), (0.1, 3500)):
        noticed += delays(inliers, outliers, mixing, given.alpha, given.runs, 5000, 1000, after)
    show(
        f"{given.head}, {test.name} to {name} after 1000 rows, alpha {100 * given.alpha:g} %, 5000 calibration rows, "
        f"{given.runs} runs",
        noticed,
    )
    save(given.json, environment(), alarms=alarms, delays=noticed)


if __name__ == "__main__":
    main()
