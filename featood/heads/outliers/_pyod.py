"""Detectors of PyOD as heads named ``pyod:NAME``, made when they are first used; `pyod.toml` lists them."""

from __future__ import annotations

__all__ = ["PyODHead", "detector_head"]

import dataclasses
import functools
import importlib
import inspect
import json
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, Mismatch, MissingPackage, UsageError
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks, stacked
from featood.heads.outliers._pyod_table import pyod_cards, read_detectors
from featood.heads.registry import PYOD, as_head
from featood.names import find_named
from featood.options import option

NO_OPTIONS = {
    "behaviour", "check_estimator", "clustering_estimator", "copy", "copy_X", "kernel_params", "means_init",
    "metric_params", "n_jobs", "novelty", "precisions_init", "random_state", "verbose", "warm_start", "weights_init",
}  # fmt: skip
"""Parameters of PyOD that are no values, do not affect scores, or are set by other options (`seed`)."""
TOLERANCE = 1e-4
"""Largest difference of scores after another fit, relative to their size and standard deviation."""


@dataclasses.dataclass(kw_only=True, eq=False)
class PyODHead(FeatureHead):
    """A detector of PyOD; its subclasses have the parameters of their detector as further options.

    The state is the training rows and their scores. PyOD's objects could be kept only as pickles, so the detector is
    fitted again when the head is loaded; if the scores of the training rows are then others, the head is refused.
    """

    detector: ClassVar[type]
    parameters: ClassVar[tuple[str, ...]]
    seeded: ClassVar[bool]
    """Whether the detector draws random numbers."""

    rows: int = option(5_000, "number of training rows to fit on and to keep, drawn at random", low=1)
    seed: int = option(0, "seed of the draw, and of the detector if it draws", low=0, high=2**32 - 1)

    def resolve_options(self) -> Mapping[str, Any]:
        """Return the numbers, true, false and none that texts of the command line stand for."""
        given = {name: getattr(self, name) for name in self.parameters}
        return {name: _value(value) for name, value in given.items() if isinstance(value, str)}

    def fit_state(self, train: SelectedRows) -> State:
        """Keep a sample of the rows, and their scores."""
        blocks = map(self.vectors, sampled_blocks(train, self.rows, self.seed))
        rows = stacked(blocks, min(self.rows, len(train.source))).clone()
        return {"rows": rows, "scores": torch.from_numpy(self.fit_detector(rows).decision_scores_).double()}

    def prepare(self, state: State) -> Any:
        """Fit the detector to the rows, and compare their scores with those of the fit."""
        detector, expected = self.fit_detector(state["rows"]), state["scores"].cpu().numpy()
        allowed = TOLERANCE * (np.abs(expected) + expected.std())
        if not np.all(np.abs(detector.decision_scores_ - expected) <= allowed):
            raise Mismatch(
                f"{self.name} gives other scores than when it was fitted: PyOD, or a library that it uses, has "
                "another version; fit the head again"
            )
        return detector

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the scores of the detector ``[B]``."""
        rows = self.vectors(block)
        with warnings.catch_warnings(action="ignore"):
            scores = fitted.decision_function(_array(rows))
        return torch.from_numpy(np.asarray(scores, np.float64)).to(rows.device)

    def fit_detector(self, rows: Tensor) -> Any:
        """Return a detector of PyOD, fitted to rows ``[N, D]``.

        Raises
        ------
        UsageError
            If PyOD refuses an option or the rows.
        DataError
            If it gives no finite scores to the rows.
        """
        options = {name: getattr(self, name) for name in self.parameters}
        if self.seeded:
            options["random_state"] = self.seed
        try:
            with warnings.catch_warnings(action="ignore"):
                fitted = self.detector(**options).fit(_array(rows))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            reason = textwrap.shorten(str(error), 200, placeholder=" ...") or type(error).__name__
            raise UsageError(
                f"{self.name} cannot be fitted to {len(rows)} rows with these options: {reason}"
            ) from error
        if bad := int((~np.isfinite(fitted.decision_scores_)).sum()):
            raise DataError(f"{self.name} gives no finite score to {bad} of its {len(rows)} training rows")
        return fitted


class TailHead(PyODHead):
    """ECOD and COPOD, for which PyOD ranks a row among the training rows and all others of the call."""

    def prepare(self, state: State) -> Any:
        """Sort each feature, and compute its second and third moments."""
        super().prepare(state)
        rows = state["rows"].double()
        centred = rows - (mean := rows.mean(0))
        return rows.T.sort(1).values.contiguous(), mean, centred.square().sum(0), centred.pow(3).sum(0)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the scores ``[B]`` that each row has if it is scored alone."""
        columns, mean, squares, cubes = fitted
        rows = self.vectors(block).double()
        count = columns.shape[1] + 1  # the training rows, and the row itself
        values = rows.T.contiguous()
        left = torch.searchsorted(columns, values, right=True).T + 1
        right = count - torch.searchsorted(columns, values).T
        left, right = -(left.double() / count).log(), -(right.double() / count).log()
        offset = rows - mean
        shift = offset / count
        third = (
            cubes + offset**3 - 3 * shift * (squares + offset**2) + 3 * shift**2 * offset - count * shift**3
        )
        skewed = torch.where(third < 0, left, right) + torch.where(third == 0, left, 0)
        return torch.maximum(skewed, self.either(left, right)).sum(1)

    def either(self, left: Tensor, right: Tensor) -> Tensor:
        """Combine the surprise ``[B, D]`` of values as low, and as high."""
        return (left + right) / 2 if self.detector.__name__ == "COPOD" else torch.maximum(left, right)


@functools.cache
def detector_head(name: str) -> type[PyODHead]:
    """Return the head of a detector of PyOD, with its parameters as options.

    Parameters
    ----------
    name : str
        ``pyod:`` and the name of the detector's class.

    Raises
    ------
    UsageError
        If PyOD has no such detector, or it cannot be a head; the text says why.
    MissingPackage
        If PyOD is not installed.
    """
    table, short = read_detectors(), name.removeprefix(PYOD)
    if short in table.refused:
        raise UsageError(
            f"{name} is no head: it {table.refused[short]}; featood heads pyod lists the detectors that are"
        )
    card = find_named("head", name, {card.name: card for card in pyod_cards()})
    try:
        detector = getattr(importlib.import_module(f"pyod.models.{table.heads[short]['module']}"), short)
    except (ImportError, AttributeError):  # an older PyOD lacks some
        raise MissingPackage(f"{name} needs PyOD: pip install -U 'featood[pyod]'") from None
    known = inspect.signature(detector).parameters
    options = dict(_options(detector))
    tail = short in ("ECOD", "COPOD")
    kept = "The training rows are kept, and the detector is fitted to them again when the head is loaded."
    alone = " Each row is scored as PyOD scores it in a call of its own." if tail else ""
    members = {
        "__annotations__": {parameter: hint for parameter, (hint, _) in options.items()},
        **{parameter: declared for parameter, (_, declared) in options.items()},
        "__doc__": f"{card.summary}\n\n{kept}{alone}",
        "__module__": __name__,
        "__qualname__": short,
        "detector": detector,
        "parameters": tuple(options),
        "seeded": "random_state" in known,
    }
    fields = {key: value for key, value in vars(card).items() if key not in ("name", "summary", "scores")}
    return as_head(type(short, (TailHead if tail else PyODHead,), members), name, **fields)


def __getattr__(name: str) -> Any:
    """Return the head of a detector by the name of its class, so that other processes can import it."""
    if name not in read_detectors().heads:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return detector_head(PYOD + name)


def _options(detector: type) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Return type and declaration of the parameters of a detector, by name, from its signature and its docstring."""
    text = inspect.getdoc(detector) or ""
    for name, parameter in inspect.signature(detector).parameters.items():
        if name in NO_OPTIONS:
            continue
        found = re.search(rf"^{name} ?:([^\n{{]*(?:{{[^}}]*}})?.*)\n((?:[ \t]+\S.*\n)*)", text, re.M)
        kinds, about = found.groups() if found else ("", "")
        first = re.split(r"\.\s(?=[A-Z])", re.sub(r"\s+", " ", about.replace("``", "")).strip())[0]
        default = parameter.default
        several = len(re.findall("int|float|str|None", kinds.partition("default")[0])) > 1
        plain = isinstance(default, bool) or (isinstance(default, (int, float)) and not several)
        hint = type(default) if plain else str | int | float | bool | None
        hint = float if plain and hint is int and "float" in kinds else hint
        yield name, (hint, option(default, first.rstrip(".") or f"see {detector.__name__} in PyOD"))


def _value(text: str) -> Any:
    """Return the number, boolean or None that a text stands for, or the text."""
    try:
        value = json.loads({"none": "null"}.get(text.lower(), text.lower()))
    except ValueError:
        return text
    return value if value is None or isinstance(value, (bool, int, float)) else text


def _array(rows: Tensor) -> np.ndarray:
    return rows.double().cpu().numpy()
