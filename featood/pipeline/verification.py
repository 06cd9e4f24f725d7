"""Verification of a results file: results are computed again from the cache and compared with the file."""

from __future__ import annotations

__all__ = [
    "CONFIRMED",
    "DIFFERENT",
    "ROUNDED",
    "Verdict",
    "compare_row",
    "verify_results",
    "versions_changed",
]

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.cache import FeatureCache, library_versions
from featood.errors import FeatoodError, Mismatch
from featood.heads import ask, create_head, load_head
from featood.heads.artefacts.artefact import options_from_json
from featood.heads.base.head import Head
from featood.pipeline.saved_results import open_scored_sets, read_results, uncertainty_of
from featood.pipeline.scoring import score
from featood.reporter import SILENT, Reporter

CONFIRMED, ROUNDED, DIFFERENT = "confirmed", "rounding", "different"
SAME = 1e-9
"""Relative difference up to which two figures are equal: other machines sum in another order."""
ROUNDING = 1e-4
"""Relative difference of scores that can result from the order of float32 operations."""
TIMES = ("fit_s", "score_s")
"""Durations, which differ from run to run."""


class Verdict(NamedTuple):
    """Verdict on one row, or on another part of the file."""

    what: str
    outcome: str
    """``confirmed``: scores with the same digest, and equal figures; ``rounding``: scores that differ only by
    rounding, and figures that agree within its effect; ``different``: everything else."""
    why: str = ""
    exit_code: int = 0


def verify_results(path: str | Path, cache: FeatureCache, *, reporter: Reporter = SILENT) -> list[Verdict]:
    """Compute all scores of a results file again, and compare scores and figures.

    Parameters
    ----------
    path : path
        A file written by ``featood score --json``.
    cache : FeatureCache
        Cache with its sets and heads.
    reporter : Reporter
        Receives possible reasons for differences, such as another version of a library, and the progress.

    Returns
    -------
    list of Verdict
        One verdict per row, followed by those on the rest of the file.

    Raises
    ------
    DataError
        If the file cannot be read, is not a results file, or contains no evidence.
    CacheCorrupt
        If a set is found to be damaged while it is read.
    """
    results = read_results(path)
    evidence = results["evidence"]
    for line in versions_changed(results.get("versions", {})):
        reporter.line(line)
    sets, faults = open_scored_sets(evidence["sets"], cache)
    heads = _Heads(evidence["heads"], cache)
    for label in evidence["heads"]:
        try:
            heads[label]
        except FeatoodError as error:
            faults[f"head {label}"] = error
    good = [label for label in evidence["heads"] if f"head {label}" not in faults]
    id_name, *others = evidence["sets"]
    shifted = evidence.get("shifted", [])  # absent in earlier versions
    inliers = [id_name, *shifted]
    again: dict[str, Any] | None = None
    outliers = {name: sets[name] for name in others if name in sets and name not in shifted}
    if set(inliers) <= set(sets) and outliers and good:
        how = results.get("comparison")
        intervals = uncertainty_of(how) if how else None
        chosen = heads.only(good)
        again = score(
            chosen, sets[id_name], outliers, shifted={name: sets[name] for name in shifted},
            force=evidence["force"], intervals=intervals, reporter=reporter,
        ).results  # fmt: skip
    verdicts = list(_rows(results, again, faults, inliers))
    return verdicts + list(_rest(results, again, bool(faults), verdicts))


def versions_changed(versions: Mapping[str, str]) -> list[str]:
    """Return a line about each library that has another version than when results were computed."""
    installed = library_versions()
    return [
        f"these results were computed with {name} {version}; the installed version is {installed.get(name, 'none')}"
        for name, version in versions.items()
        if installed.get(name) != version
    ]


class _Heads(Mapping[str, Head]):
    """The heads of the evidence, loaded and checked on access."""

    def __init__(self, entries: Mapping[str, Any], cache: FeatureCache) -> None:
        self._entries, self._cache = entries, cache

    def only(self, labels: list[str]) -> _Heads:
        return _Heads({label: self._entries[label] for label in labels}, self._cache)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, label: str) -> Head:
        entry = self._entries[label]
        if entry["artefact"] is None:
            if entry["fitted"]:
                raise Mismatch(f"{label} was fitted but not saved, so it cannot be scored again")
            return create_head(entry["head"], **options_from_json(entry["options"]))
        artefact = Path(entry["artefact"])
        head = load_head(artefact if artefact.is_absolute() else self._cache.root / entry["artefact"])
        assert head.saved is not None
        if head.saved.tensors_sha256 != entry["tensors_sha256"]:
            raise Mismatch(f"{head.saved.folder} contains another fit than the one that was scored")
        if head.saved.record_sha256 != entry["record_sha256"]:
            raise Mismatch(
                f"{head.saved.folder} has other options or another provenance than the head that was scored"
            )
        which = entry["options"].get("which")
        return head if which in (None, head.options.get("which")) else ask(head, which)


def _rows(
    results: Mapping[str, Any],
    again: Mapping[str, Any] | None,
    faults: Mapping[str, FeatoodError],
    inliers: list[str],
) -> Iterator[Verdict]:
    """Compare the rows of the file, and list those that are missing."""
    entries = results["evidence"]["heads"]
    known = {(row["head"], row["ood"]): row for row in (again or {"rows": ()})["rows"]}
    for row in results["rows"]:
        head, ood = row["head"], row["ood"]
        what = f"{head} on {ood}"
        parts = [*(f"set {name}" for name in (*inliers, ood)), f"head {head}"]
        reasons = [faults[part] for part in parts if part in faults]
        if reasons:
            code = max(error.exit_code for error in reasons)
            yield Verdict(what, DIFFERENT, "; ".join(map(str, reasons)), code if code in (4, 5) else 5)
        elif (head, ood) not in known:
            yield Verdict(what, DIFFERENT, "the evidence does not contain this head and set", 5)
        else:
            assert again is not None
            now = again["evidence"]["heads"][head]["scores"]
            yield compare_row(what, row, known[head, ood], entries[head]["scores"], now, (*inliers, ood))
    present = {(row["head"], row["ood"]) for row in results["rows"]}
    for head in entries:
        for ood in results["evidence"]["sets"]:
            if ood not in inliers and (head, ood) not in present:
                yield Verdict(f"{head} on {ood}", DIFFERENT, "was scored, but its row is not in the file", 5)


def compare_row(
    what: str,
    row: Mapping[str, Any],
    again: Mapping[str, Any],
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    sets: tuple[str, ...],
) -> Verdict:
    """Compare a row and its scores with those computed again.

    Parameters
    ----------
    what : str
        Name of the row in the verdict.
    row, again : dict
        The row of the file, and the one computed again.
    then, now : dict
        Digest and octiles of the scores of each set, in the file and computed again; see
        :class:`featood.pipeline.evidence.Scored`.
    sets : tuple of str
        The sets that the row depends on.
    """
    change = max(_relative_change(then[name], now[name]) for name in sets)
    if change > ROUNDING:
        return Verdict(what, DIFFERENT, f"the scores differ, by {change:.1g} relative", 5)
    equal = all(then[name]["sha256"] == now[name]["sha256"] for name in sets)
    # two rows that swap ranks change FPR95 by one row
    slack = 0.0 if equal else max(5e-4, 1.5 / min(again["n_id"], again["n_ood"]))
    wrong = list(_differing({key: row[key] for key in row if key not in TIMES}, again, slack))
    wrong += [f"{key} is missing" for key in again if key not in row]
    if wrong:
        return Verdict(what, DIFFERENT, "; ".join(wrong[:3]), 5)
    if equal:
        return Verdict(what, CONFIRMED)
    worst = max((abs(row[key] - again[key]) for key in row if _measured(row, again, key)), default=0.0)
    agree = "metrics are identical" if worst == 0 else f"metrics differ by at most {worst:.1g}"
    how = f"by up to {change:.1g} relative at their octiles" if change else "between their octiles"
    return Verdict(what, ROUNDED, f"scores differ {how}; {agree}")


def _measured(row: Mapping[str, Any], again: Mapping[str, Any], key: str) -> bool:
    return isinstance(row[key], float) and isinstance(again.get(key), float) and key not in TIMES


def _relative_change(then: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Return the largest difference of octiles, relative to their size or the interquartile range, if larger."""
    if then["sha256"] == now["sha256"]:
        return 0.0
    first, second = np.array(then["octiles"], float), np.array(now["octiles"], float)
    width = abs(float(second[6] - second[2]))
    size = np.maximum(np.maximum(np.abs(first), np.abs(second)), width)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.where(first == second, 0.0, np.abs(first - second) / size)
    return math.inf if np.isnan(change).any() else float(change.max())


def _rest(
    results: Mapping[str, Any], again: Mapping[str, Any] | None, faults: bool, rows: list[Verdict]
) -> Iterator[Verdict]:
    """Compare the other parts of the file, if all of them could be computed again."""
    parts = [part for part in ("id", "repeats", "comparison") if results.get(part)]
    if again is None or faults:
        yield Verdict(", ".join(parts), DIFFERENT, "not computed again because of the differences above", 5)
        return
    exact = all(verdict.outcome != ROUNDED for verdict in rows)
    for part in ("backbone", "fingerprint", *parts):
        if part == "comparison" and not exact:
            yield Verdict(part, ROUNDED, "not compared, as scores differ by rounding")
            continue
        wrong = list(_differing(results[part], again.get(part), 0.0 if exact else 5e-4))
        if wrong:
            yield Verdict(part, DIFFERENT, "; ".join(wrong[:3]), 5)
        elif part in parts:
            yield Verdict(part, CONFIRMED if exact else ROUNDED)


def _differing(then: Any, now: Any, slack: float, where: str = "") -> Iterator[str]:
    """Describe the values of a JSON tree that have changed."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then:
            if key not in TIMES and not key.startswith(tuple(f"{name}_" for name in TIMES)):
                yield from _differing(then[key], now.get(key), slack, f"{where}.{key}".lstrip("."))
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, (first, second) in enumerate(zip(then, now, strict=True)):
            yield from _differing(first, second, slack, f"{where}[{index}]")
    elif _number(then) and _number(now):
        if not math.isclose(then, now, rel_tol=SAME, abs_tol=max(slack, 1e-12)):
            yield f"{where} is {then!r} in the file and {now!r} computed again"
    elif then != now:
        yield f"{where} is {_short(then)} in the file and {_short(now)} computed again"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
