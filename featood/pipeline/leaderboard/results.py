"""The folder of a leaderboard: ``results.jsonl`` with one line for each fit, and the ranks of its scores."""

from __future__ import annotations

__all__ = ["Fit", "Results"]

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featood.errors import CacheCorrupt
from featood.files import append_line, atomic_write
from featood.names import folder_name, safe_text
from featood.pipeline.evidence import ranks_digest
from featood.pipeline.leaderboard.fits import Job
from featood.records import check_record, optional
from featood.sealed import seal, unseal

ADVICE = "remove this line, and run the same command again to compute it"
LINE: dict[Any, Any] = {
    "benchmark": str,
    "label": str,
    "head": str,
    "seed": optional(int),
    "settings": str,
    "contents": {str: str},
    "versions": {str: str},
    "left_out?": str,
    "over_s?": (int, float),
    "rows?": [{"head": str, "ood": str, ...: object}],
    "evidence?": {"sets": {str: object}, "heads": {str: object}, ...: object},
    ...: object,
}
"""Schema of a line; see `featood.records`."""


class Fit(NamedTuple):
    """A finished fit."""

    line: dict[str, Any]
    ranks: dict[str, np.ndarray]
    """Ranks ``[N]`` of the scores on each set, the in-distribution set first; empty if the head was left out."""


class Results:
    """Finished fits in a folder.

    Parameters
    ----------
    folder : path
        Created with the first fit. A later line replaces earlier ones with the same benchmark and label.

    Raises
    ------
    CacheCorrupt
        If a line was altered. An unfinished last line, which a kill may leave, is ignored.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "results.jsonl"
        content = self.file.read_bytes() if self.file.exists() else b""
        self._lines: dict[tuple[str, str], dict[str, Any]] = {}
        for number, text in enumerate(content.split(b"\n")[:-1], 1):
            where = Path(f"{self.file}, line {number}")
            try:
                body = json.loads(text)
            except (ValueError, RecursionError):
                raise CacheCorrupt(f"{where} is not JSON; {ADVICE}") from None
            line = check_record(unseal(body, where, ADVICE), LINE, where, ADVICE)
            self._lines[line["benchmark"], line["label"]] = line

    def latest(self, job: Job) -> dict[str, Any] | None:
        """Return the latest line of a job, with whatever settings, or None."""
        return self._lines.get((job.benchmark.name, job.label))

    def finished(self, job: Job, settings: str) -> Fit | None:
        """Return a fit if it has these settings and is complete, otherwise None."""
        line = self.latest(job)
        if line is None or line["settings"] != settings:
            return None
        ranks = {} if "left_out" in line else self._ranks(job, line)
        return None if ranks is None else Fit(line, ranks)

    def add(self, job: Job, line: Mapping[str, Any], ranks: np.ndarray) -> None:
        """Add a fit; it is there only when complete."""
        if len(ranks):
            buffer = io.BytesIO()
            np.save(buffer, ranks, allow_pickle=False)
            atomic_write(self._place(job), buffer.getvalue())
        append_line(self.file, json.dumps(seal(dict(line)), allow_nan=False))
        self._lines[job.benchmark.name, job.label] = dict(line)

    def _ranks(self, job: Job, line: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """Return the ranks by set, or None if they are lost."""
        evidence = line["evidence"]
        try:
            ranks = np.load(self._place(job), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        sizes = [entry["rows"] for entry in evidence["sets"].values()]
        if ranks_digest([ranks]) != evidence["heads"][job.label]["ranks_sha256"] or len(ranks) != sum(sizes):
            return None
        return dict(zip(evidence["sets"], np.split(ranks, np.cumsum(sizes)[:-1]), strict=True))

    def _place(self, job: Job) -> Path:
        return self.folder / "ranks" / safe_text(job.benchmark.name) / f"{folder_name(job.label)}.npy"
