"""The result of a fit: tensors, a record of the training rows, and where they are saved.

All of these are immutable; `Fitted`, the state of a head, holds a fit that is replaced as a whole.
"""

from __future__ import annotations

__all__ = [
    "Fit",
    "FitContext",
    "FitRecord",
    "Fitted",
    "Learned",
    "Saved",
    "State",
    "check_match",
    "collect_warnings",
    "require_tensors",
]

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from torch import Tensor

from featood.engines import LOCAL, Engine
from featood.errors import Mismatch, NotFitted
from featood.objects import Location

if TYPE_CHECKING:
    from featood.cache.feature_set import FeatureSet
    from featood.heads.base.calibration import Calibration
    from featood.heads.base.rows import SelectedRows

State = dict[str, Tensor]
"""Tensors by name, as returned by `fit_state`."""


@dataclasses.dataclass(frozen=True)
class FitContext:
    """Context of a fit: progress reporting, checkpoints and validation outliers."""

    progress: Callable[..., None] | None = None
    """Called as ``progress(step, total, loss=..., ...)``."""
    checkpoint: Location | None = None
    """Folder of checkpoints for resuming an interrupted training."""
    validate_on: FeatureSet | None = None
    """Outliers for selecting the best state of a training, instead of the loss on held-out rows."""
    engine: Engine = LOCAL
    """Where sums over the rows are computed."""


class Learned(NamedTuple):
    """What `run_fit` returns."""

    state: State
    training: Mapping[str, Any] = MappingProxyType({})
    """Summary of a training: ``steps``, ``loss``, ``validation``, ``diverged``; empty if no network is trained."""


class Saved(NamedTuple):
    """Location of a fitted head on disk, and digests of its files."""

    folder: Location
    tensors_sha256: str
    record_sha256: str
    """Digest of the head's name, options and record, without the duration of the fit."""


@dataclasses.dataclass(frozen=True)
class FitRecord:
    """What a head was fitted on and how; empty for an unfitted head."""

    fitted_on: str = ""
    """Name of the set."""
    fingerprint: str = ""
    """Fingerprint of its features, which scored sets must share."""
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Recipe of the features."""
    content: str = ""
    """Digest of the values of the set, empty if unknown."""
    rows: int = 0
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of features of each column, including ``logits``."""
    notes: tuple[str, ...] = ()
    """Warnings of the fit."""
    num_classes: int | None = None
    """Number of classes of the set's classifier, if the head numbers its classes differently."""
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Summary of a training, see `Learned`."""
    fit: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Arguments of the job besides the options: ``split``, ``outliers``, ``validate_on``."""
    fit_seconds: float | None = None
    tuned: Mapping[str, Any] | None = None
    """Outlier sets used for training or for choosing options or state."""
    members_tuned: tuple[Mapping[str, Any], ...] | None = None
    """Such sets of the members of a composition."""

    @classmethod
    def of(cls, source: FeatureSet, rows: SelectedRows, notes: Sequence[str], **more: Any) -> FitRecord:
        """Return the record of a fit on `rows`."""
        sizes = {name: int(values.shape[1]) for name, values in rows.source.features.items()}
        if rows.source.logits is not None:
            sizes["logits"] = int(rows.source.logits.shape[1])
        return cls(
            source.name, source.fingerprint, dict(source.recipe), source.content, len(source), sizes, tuple(notes),
            **more,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return the record as stored in an artefact, without empty entries."""
        if self == FitRecord():
            return {}
        body = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        body["notes"] = list(self.notes)
        for name in ("num_classes", "fit_seconds", "tuned", "members_tuned"):
            if body[name] is None:
                del body[name]
        for name in ("training", "fit", "content"):
            if not body[name]:
                del body[name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in body.items()}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> FitRecord:
        """Return the record that `as_json` wrote, ignoring unknown entries of other versions."""
        known = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {name: value for name, value in body.items() if name in known}
        for name in {"notes", "members_tuned"} & set(values):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Fit:
    """The state of a fitted head."""

    state: Mapping[str, Tensor]
    record: FitRecord = FitRecord()
    device: str = "cpu"
    """Device that the head computes on."""
    saved: Saved | None = None
    """The artefact that holds this very fit, where it was saved or comes from one."""
    calibration: Calibration | None = None
    """Its calibration, if it has one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", MappingProxyType(dict(self.state)))

    def __reduce__(self) -> tuple[Any, ...]:
        # a proxy cannot be copied
        return Fit, (dict(self.state), self.record, self.device, self.saved, self.calibration)


class Fitted:
    """State of a head: a fit, and the objects that scoring builds from it. Options are immutable."""

    _fit: Fit | None = None
    _prepared: tuple[Any] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self) and name in {field.name for field in dataclasses.fields(self)}:  # type: ignore[arg-type]
            raise AttributeError(
                f"the options of a head are immutable; use dataclasses.replace(head, {name}={value!r})"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the result of `prepare`, such as an index, which cannot be copied between processes."""
        return {name: value for name, value in vars(self).items() if name != "_prepared"}

    @property
    def name(self) -> str:
        """Command-line name."""
        raise NotImplementedError

    @property
    def learns(self) -> bool:
        """Whether it must be fitted before scoring, with these options."""
        raise NotImplementedError

    @property
    def fitted(self) -> bool:
        """Whether it is ready to score: fitted, or a head without fit."""
        return self._fit is not None or not self.learns

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The fitted tensors.

        Raises
        ------
        NotFitted
            Before `fit`.
        """
        if not self.fitted:
            raise NotFitted(f"{self.name} is not fitted; fit it first (featood fit {self.name})")
        return self._fit.state if self._fit else {}

    @property
    def record(self) -> FitRecord:
        """What it was fitted on and how; empty before the fit."""
        return self._fit.record if self._fit else FitRecord()

    @property
    def meta(self) -> dict[str, Any]:
        """The record as plain values; use `record`."""
        warnings.warn("head.meta is now head.record", DeprecationWarning, stacklevel=2)
        return self.record.as_json()

    @property
    def device(self) -> str:
        """Device that it computes on."""
        return self._fit.device if self._fit else "cpu"

    @property
    def saved(self) -> Saved | None:
        """The artefact that holds this very fit, where it was saved or comes from one."""
        return self._fit.saved if self._fit else None

    def adopt(self, fit: Fit) -> Self:
        """Take over a fit made or saved elsewhere by a head with the same options."""
        self._fit, self._prepared = fit, None
        return self

    def annotate(self, **facts: Any) -> None:
        """Add facts about the job to the record (see `FitRecord`); the fit then counts as unsaved."""
        if self._fit is None:
            raise NotFitted(f"{self.name} is not fitted, so there is no record to add to")
        record = dataclasses.replace(self._fit.record, **facts)
        self._fit = dataclasses.replace(self._fit, record=record, saved=None)

    def mark_saved(self, saved: Saved) -> None:
        """Record which artefact holds this fit."""
        fit = self._fit or Fit({})
        self._fit = dataclasses.replace(fit, saved=saved)


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the warnings of a fit for the notes of its record, and re-emit them."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    notes += dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning)
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def check_match(name: str, record: FitRecord, source: FeatureSet, force: bool = False) -> None:
    """Raise if the features of a set do not match those that a head was fitted on.

    Raises
    ------
    Mismatch
        If fingerprints or sizes differ.
    """
    ours = record.fingerprint
    if ours and source.fingerprint and ours != source.fingerprint and not force:
        from featood.cache.manifest import differing

        raise Mismatch(
            f"{name} was fitted on {record.fitted_on} (fingerprint {ours[:12]}), but "
            f"{source.name} was extracted differently ({source.fingerprint[:12]}; differing: "
            f"{differing(record.recipe, source.recipe) or 'unknown'}); "
            "fit the head on features of the same kind, or add --force"
        )
    for column, size in record.sizes.items():
        values = source.logits if column == "logits" else source.feature(column)
        if values is None or values.shape[1] != size:
            found = "none" if values is None else values.shape[1]
            raise Mismatch(f"{name} was fitted on {size} {column} columns, {source.name} has {found}")


def require_tensors(name: str, state: Mapping[str, Tensor], *keys: str) -> None:
    """Raise if a head was fitted by an earlier version with different tensors.

    Raises
    ------
    Mismatch
        If a tensor is missing.
    """
    if not set(keys) <= set(state):
        raise Mismatch(
            f"{name} was fitted by another version of featood, which computes other scores; fit it again"
        )
