"""Alarms on streams: p-values of rows as they come, and the capital of bets against them."""

from __future__ import annotations

__all__ = ["BETS", "VIEWS", "Capital", "bet", "change_start", "online_p_values"]

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import special

from featood.decisions.checks import calibration_scores
from featood.errors import UsageError
from featood.metrics.counts import checked_scores

BLOCK = 256
"""Rows that are ranked among each other at once."""
BETS = ((1.0, 0.3), (1.0, 0.6), (0.4, 0.7), (0.1, 0.5), (0.03, 0.2))
"""What is bet on: a share of changed rows, and the power e of the density ``e u^(e - 1)`` of their p-values."""
SLOWNESS = 100
"""The larger, the more of the capital is kept for late changes."""
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "higher": lambda p: p,
    "lower": lambda p: 1 - p,
    "wider": lambda p: 2 * np.minimum(p, 1 - p),
    "narrower": lambda p: np.abs(2 * p - 1),
}
"""By name of the change of scores that makes it small, a function of p-values that is uniform if they are."""
WHOLE = {"higher": 1.0}


def online_p_values(
    known: Float[np.ndarray, "N"], scores: ArrayLike, generator: np.random.Generator, most: int = 100_000
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "K"]]:
    """Return p-values of the rows of a stream, each ranked among the calibration rows and all rows before it.

    If the rows of calibration set and stream are exchangeable, the p-values are independent and uniform. P-values that
    are ranked among the calibration rows only depend on each other, as all err with the same calibration set, so on a
    long stream alarms from them are false more often than they should.

    Parameters
    ----------
    known : array of shape [N]
        Scores to rank among, ascending: at first those of the calibration set, then what the last call returned.
    scores : array of shape [M]
        Scores of the next rows, in their order, higher = more out-of-distribution.
    generator : numpy Generator
        Breaks ties.
    most : int
        Largest number of scores to keep. Those to forget are drawn at random from the calibration set and the stream
        alike, which keeps the p-values independent and uniform.

    Returns
    -------
    p_values : array of shape [M]
    known : array of shape [min(N + M, most)]
        The scores for the next call.

    References
    ----------
    Vovk et al., Testing Exchangeability On-Line, ICML 2003; Vovk, Testing Randomness Online, Statistical Science 2021.

    Example
    -------
    >>> p, known = online_p_values(np.arange(9.0), [20.0, 10.0], np.random.default_rng(0))
    >>> p.round(2).tolist(), len(known)
    ([0.04, 0.16], 11)
    """
    known = calibration_scores(known)
    values = checked_scores(scores, "tested") if np.size(scores) else np.zeros(0)
    found = np.empty(len(values))
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        above, upwards = (len(known) - np.searchsorted(known, block, side) for side in ("right", "left"))
        before = np.tri(len(block), k=-1, dtype=bool)
        higher = above + (before & (block > block[:, None])).sum(1)
        same = upwards - above + (before & (block == block[:, None])).sum(1) + 1
        total = len(known) + 1 + np.arange(len(block))
        found[start : start + BLOCK] = (higher + (1 - generator.random(len(block))) * same) / total
        known = np.sort(np.concatenate([known, block]), kind="stable")
        if (surplus := len(known) - most) > 0:
            known = np.delete(known, generator.choice(len(known), surplus, replace=False, shuffle=False))
    return found, known


class Capital(NamedTuple):
    """What bets against a stream of p-values have won and lost, from 1 at its beginning."""

    parts: Mapping[str, float]
    """Part of the capital to bet on each change; see :data:`VIEWS`."""
    staked: Float[np.ndarray, "V J"]
    """Logarithms of the capital of the bets of each part that have started."""
    rows: int = 0
    """Number of rows."""

    @classmethod
    def initial(cls, parts: Mapping[str, float] = WHOLE) -> Capital:
        """Return the capital before the first row.

        Raises
        ------
        UsageError
            If a change is not known, or the parts are not positive and do not add up to 1.
        """
        if unknown := [view for view in parts if view not in VIEWS]:
            raise UsageError(f"bets are on {', '.join(VIEWS)}, not {', '.join(unknown)}")
        if not all(part > 0 for part in parts.values()) or abs(sum(parts.values()) - 1) > 1e-9:
            raise UsageError("the parts of the capital must be positive and add up to 1")
        return cls(parts, np.full((len(parts), len(BETS)), -np.inf))

    @property
    def log(self) -> float:
        """Logarithm of the capital."""
        kept = np.log(SLOWNESS) / np.log(SLOWNESS + self.rows)
        return float(np.logaddexp(np.log(kept), special.logsumexp(self.staked)))

    @property
    def winner(self) -> str:
        """The change whose bets have the largest capital."""
        return list(self.parts)[int(special.logsumexp(self.staked, 1).argmax())]


def bet(capital: Capital, p: Float[np.ndarray, "M"]) -> tuple[Capital, Float[np.ndarray, "M"]]:
    """Bet that the next p-values are small, or not uniform in another way.

    While the p-values are independent and uniform, the capital is a martingale, so the probability that it ever
    reaches ``1 / a`` is at most a, however long the stream is (Ville). An alarm at that capital needs no number of rows
    in advance, and may be checked after each row.

    Some capital is staked at every row, so that late changes are noticed too: after t rows, ``log(c) / log(c + t)`` is
    left to stake, c = 100. Each stake is divided among bets that a share of the rows has changed, and that their
    p-values have the density ``e p^(e - 1)`` (:data:`BETS`).

    Parameters
    ----------
    capital : Capital
        As the last call returned it, or :meth:`Capital.initial`.
    p : array of shape [M]
        P-values of the next rows, as of :func:`online_p_values`.

    Returns
    -------
    capital : Capital
        After all of them.
    log_capital : array of shape [M]
        Logarithm of the capital after each of them.

    References
    ----------
    Vovk, Testing Randomness Online, Statistical Science 2021; Fedorova et al., Plug-in Martingales for Testing
    Exchangeability On-line, ICML 2012; mixtures over starts: Shin et al., E-detectors: a Nonparametric Framework for
    Sequential Change Detection, 2023; Ville, Etude critique de la notion de collectif, 1939.

    Example
    -------
    >>> _, log_capital = bet(Capital.initial(), np.full(20, 0.001))
    >>> int((log_capital < np.log(100)).sum())  # rows before an alarm that is false with a probability of 1 %
    3
    """
    if not len(p):
        return capital, np.zeros(0)
    seen = capital.rows + np.arange(len(p) + 1)
    kept = np.log(SLOWNESS) / np.log(SLOWNESS + seen)
    stakes = np.log(kept[:-1] - kept[1:]) - np.log(len(BETS))
    total = np.log(kept[1:])
    staked = np.empty_like(capital.staked)
    for number, (view, part) in enumerate(capital.parts.items()):
        grown = np.cumsum(_log_bets(VIEWS[view](p)), 1)
        # R_t = (R_(t-1) + stake_t) bet_t, all divided by the product of the bets up to t
        started = stakes + np.log(part) - np.pad(grown, ((0, 0), (1, 0)))[:, :-1]
        sums = np.logaddexp.accumulate(np.column_stack([capital.staked[number], started]), axis=1)[:, 1:]
        staked[number] = (grown + sums)[:, -1]
        total = np.logaddexp(total, special.logsumexp(grown + sums, 0))
    return Capital(capital.parts, staked, int(seen[-1])), total


def change_start(p: Float[np.ndarray, "M"], views: Iterable[str] = WHOLE) -> int:
    """Return the row at which p-values most likely began to change: where the best bet would best have started.

    Parameters
    ----------
    p : array of shape [M]
        P-values in the order of their rows; the change lasts to the last one.
    views : iterable of str
        Changes to consider; see :data:`VIEWS`.

    References
    ----------
    Page, Continuous Inspection Schemes, Biometrika 1954.

    Example
    -------
    >>> change_start(np.r_[np.linspace(0.01, 1, 50), np.full(20, 0.01)])
    50
    """
    grown = np.pad(np.concatenate([_log_bets(VIEWS[view](p)) for view in views]).cumsum(1), ((0, 0), (1, 0)))
    best = grown[(grown[:, -1] - grown.min(1)).argmax()]
    return int(best.argmin())


def _log_bets(values: np.ndarray) -> np.ndarray:
    """Return the logarithms of the bets ``[J, M]`` on values ``[M]`` that are uniform without a change."""
    shares, powers = np.array(BETS).T[:, :, None]
    changed = powers * np.maximum(values, np.finfo(float).eps) ** (powers - 1)
    return np.log1p(shares * (changed - 1))
