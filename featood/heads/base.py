"""What every head shares: options, checks, blocks, state. A head itself is a formula and its tensors."""

from __future__ import annotations

__all__ = ["FeatureHead", "FitContext", "Head", "LogitHead", "State"]

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.errors import DataError, NotFitted, UsageError
from featood.heads.notes import noted
from featood.heads.numbering import class_numbers, in_columns, noted_numbers
from featood.heads.provenance import Saved, check_match, described
from featood.heads.registry import Card, check_options, option
from featood.heads.rows import SelectedRows
from featood.heads.spaces import SpaceOption
from featood.numerics.spaces import FITTED

State = dict[str, Tensor]
WORST = 1e150
"""Score of a row that cannot be scored: the most out-of-distribution, beyond the squares of whatever float32 holds.

Its own square is finite, so that means and deviations of scores are."""


@dataclasses.dataclass(frozen=True)
class FitContext:
    """What surrounds a fit: where to show progress and where to keep checkpoints."""

    progress: Callable[..., None] | None = None
    """Called as ``progress(step, total, loss=..., ...)``."""
    checkpoint: Path | None = None
    """Folder for resuming an interrupted training."""
    validate_on: FeatureSet | None = None
    """Outliers to choose the best state of a training by, in place of the loss on held-out rows."""
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Where a training leaves its summary, for the head's ``meta``."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """Base of all heads: ``fit(set)``, then ``score(set)``, higher meaning more out-of-distribution.

    A subclass declares its options as fields, and writes `fit_state` (rows to named tensors) and `score_block`
    (block and tensors to scores); a classifier, `classify_block` too. It never keeps state of its own: what
    `fit_state` returns is what is saved, and `prepare` turns it into whatever scoring needs.
    """

    card: ClassVar[Card]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    trains: ClassVar[bool] = False
    """Whether a fit trains a network: minutes rather than seconds."""
    least_classes: ClassVar[int] = 1
    """Fewest columns of the logits that the formula has a value for, where the head needs logits."""
    testing_options: ClassVar[Mapping[str, Any]] = {}
    """Options that make a slow head quick enough for the conformance suite (see `featood.testing`)."""

    nonfinite: str = option(
        "error",
        "rows with NaN or infinite values: refuse them, or leave them out of the fit and score them worst",
        choices=("error", "drop"),
    )

    # ---- what a subclass writes -------------------------------------------------------------------

    def fit_state(self, train: SelectedRows) -> State:
        """Turn training rows into the tensors that scoring needs."""
        return {}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block of rows ``[B]``; `fitted` is what `prepare` returned."""
        raise NotImplementedError

    def classify_block(self, block: FeatureSet, fitted: Any) -> Tensor | None:
        """Return logits ``[B, K]`` of the fit's classes, finite, where the head is a classifier as well."""
        return None

    def prepare(self, state: State) -> Any:
        """Turn the saved tensors into what scoring uses (an index, a network); by default they are it."""
        return state

    def columns(self, source: FeatureSet) -> list[str]:
        """Feature columns of a set to fit on."""
        return []

    # ---- what everyone calls ----------------------------------------------------------------------

    def __post_init__(self) -> None:
        check_options(self)
        vars(self).update(
            _state=None if self.card.learns else {}, _prepared=None, meta={}, _device="cpu", saved=None
        )

    @property
    def name(self) -> str:
        """Command-line name."""
        return self.card.name

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of its scores, the default first; none where there is one only."""
        return self.card.scores

    @property
    def takes_outliers(self) -> bool:
        """Whether it learns from outliers with these options."""
        return self.card.takes_outliers

    @property
    def options(self) -> dict[str, Any]:
        """Options and their values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def meta(self) -> dict[str, Any]:
        """What the head was fitted on: set, fingerprint, rows, columns and their sizes, notes."""
        return vars(self)["meta"]

    @property
    def saved(self) -> Saved | None:
        """The artefact that holds this very fit, where it was saved or comes from one."""
        return vars(self)["saved"]

    @property
    def device(self) -> str:
        """Where the head computes."""
        return vars(self)["_device"]

    @property
    def fitted(self) -> bool:
        """Whether it has been fitted, or need not be."""
        return vars(self)["_state"] is not None

    @property
    def state(self) -> State:
        """The fitted tensors.

        Raises
        ------
        NotFitted
            Before `fit`.
        """
        state = vars(self)["_state"]
        if state is None:
            raise NotFitted(f"{self.name} is not fitted; fit it first (featood fit {self.name})")
        return state

    def fit(
        self, train: Any, labels: Any = None, *, context: FitContext | None = None, device: str = "cpu"
    ) -> Self:
        """Fit to in-distribution rows.

        Parameters
        ----------
        train : FeatureSet or array
            A set with the columns that the card names; or plain features ``[N, D]``, with `labels` ``[N]``.
        labels : array, optional
            Class labels for plain features; rows with a negative label are left out.
        context : FitContext, optional
            Progress and checkpoints, for heads that train.
        device : str
            Where to compute; ``auto`` is the GPU where there is one.

        Returns
        -------
        Head
            This head, fitted.

        Raises
        ------
        DataError
            When the set lacks a column, has no rows, or holds values that are not finite.
        UsageError
            When the machine does not have the device.
        """
        source = as_feature_set(train, labels)
        context = context or FitContext()
        with noted() as notes:  # the choice of columns may be one
            rows = self._select(source, fitting=True, device=device)
            if not len(source):
                raise DataError(f"{self.name}: {source.name} has no rows to fit on")
            state = self.run_fit(rows, context)
        numbers, outputs = noted_numbers(rows) if self._classifies else ({}, {})
        meta = described(source, rows, notes) | outputs
        training = {"training": context.record} if context.record else {}
        self._adopt({**state, **numbers}, meta | training, str(rows.device))
        return self

    def run_fit(self, train: SelectedRows, context: FitContext) -> State:
        """Fit within a context; heads that train override this in place of `fit_state`."""
        return self.fit_state(train)

    def score(self, data: Any, *, force: bool = False) -> Any:
        """Score rows.

        Parameters
        ----------
        data : FeatureSet or array
            What to score, with the columns that the head was fitted on.
        force : bool
            Accept features with another fingerprint.

        Returns
        -------
        ndarray or Tensor
            ``[N]`` float64, higher = more out-of-distribution; a tensor where the columns are tensors.

        Raises
        ------
        NotFitted
            Before `fit`.
        Mismatch
            When the features come from another backbone, or have another size, than those of the fit.
        DataError
            At values that are not finite, unless ``nonfinite="drop"``.
        """
        source = as_feature_set(data)
        rows, fitted = self._ready(source, force)
        parts, unscored = [], 0
        with torch.no_grad():
            for block, keep in rows.masked_blocks():
                scores = torch.full((len(keep),), WORST, dtype=torch.float64)
                if len(block):
                    given = self.score_block(block, fitted).double().cpu()
                    broken = ~(torch.isfinite(given) & (given < WORST))
                    unscored += int(broken.sum())
                    scores[keep] = given.masked_fill(broken, WORST)
                parts.append(scores)
        if unscored:
            warnings.warn(f"{self.name}: {unscored} rows of {source.name} got no finite score", stacklevel=2)
        return _like(source, torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64))

    def classify(self, data: Any, *, force: bool = False) -> Any:
        """Return the head's own class logits ``[N, C]``, or None where it leaves classes to the backbone's logits.

        Their softmax is what the head takes for the probabilities of the classes; a row left out gets zeros.
        The columns are those of the classifier that came with the rows of the fit; without one, each class that had
        rows has a column, and `classes` tells which. Arguments and errors are those of `score`.
        """
        if not self._classifies:
            return None
        source, parts = as_feature_set(data), []
        rows, fitted = self._ready(source, force)
        with torch.no_grad():
            for block, keep in rows.masked_blocks():
                logits = self.classify_block(block, fitted)
                if logits is None:
                    return None
                logits = in_columns(logits.double().cpu(), self.state, self.meta)
                parts.append(torch.zeros(len(keep), logits.shape[1], dtype=torch.float64))
                parts[-1][keep] = logits
        return _like(source, torch.cat(parts) if parts else torch.empty(0, 0, dtype=torch.float64))

    @property
    def classes(self) -> Tensor | None:
        """Class numbers ``[C]`` that the columns of `classify` stand for; None where they are 0 to C - 1."""
        return class_numbers(self.state, self.meta)

    def check_match(self, source: FeatureSet, force: bool = False) -> None:
        """Refuse features that are not of the kind the head was fitted on.

        Raises
        ------
        Mismatch
            When fingerprints or sizes differ.
        """
        check_match(self.name, self.meta, source, force)

    def save(self, path: str | Path) -> Path:
        """Save the fitted head into a folder: ``head.safetensors``, ``head.json`` and a card."""
        from featood.heads.artefact import save_head

        return save_head(self, path)

    # ---- inside -----------------------------------------------------------------------------------

    @property
    def _ranks(self) -> bool:
        """Whether the fit sees ranks of the classes that have rows; a head of logits sees numbers of their columns."""
        return "logits" not in self.card.needs

    @property
    def _classifies(self) -> bool:
        return type(self).classify_block is not Head.classify_block

    def _ready(self, source: FeatureSet, force: bool) -> tuple[SelectedRows, Any]:
        self.check_match(source, force)
        return self._select(source, fitting=False, device=self.device), self._fitted()

    def _fitted(self) -> Any:
        if vars(self)["_prepared"] is None:
            vars(self)["_prepared"] = (self.prepare(self.state),)
        return vars(self)["_prepared"][0]

    def _adopt(self, state: State, meta: dict[str, Any], device: str = "cpu") -> None:
        vars(self).update(_state=state, _prepared=None, meta=meta, _device=device, saved=None)

    def _names(self, source: FeatureSet, fitting: bool) -> list[str]:
        fitted = [name for name in self.meta.get("sizes", ()) if name != "logits"]
        names = self.columns(source) if fitting or not fitted else fitted
        if "logits" in self.card.needs:
            names.append("logits")
        if fitting and source.labels is not None:
            names.append("labels")
        return names

    def _select(self, source: FeatureSet, fitting: bool, device: str) -> SelectedRows:
        if "logits" in self.card.needs:
            if source.logits is None:
                raise DataError(f"{self.name} needs logits, which {source.name} does not have")
            if (classes := source.logits.shape[1]) < self.least_classes:
                raise DataError(
                    f"{self.name} needs logits of at least {self.least_classes} classes; those of {source.name} "
                    f"have {classes}"
                )
        if fitting and "labels" in self.card.needs and source.labels is None:
            raise DataError(f"{self.name} needs labels to fit, which {source.name} does not have")
        if "classifier" in self.card.needs and source.classifier is None and fitting:
            raise DataError(f"{self.name} needs the classifier's weight and bias, which {source.name} lacks")
        names = self._names(source, fitting)
        if not names:
            names = [source.main] if source.features else ["logits"]
        known_only = fitting and not self.card.takes_outliers
        ranked = fitting and self._ranks
        return SelectedRows(source, names, self.nonfinite, known_only, device, ranked)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LogitHead(Head):
    """A head that scores logits alone."""

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block by its logits, in float64."""
        assert block.logits is not None
        return self.score_logits(block.logits[:].double(), fitted)

    def score_logits(self, logits: Tensor, fitted: Any) -> Tensor:
        """Score logits ``[B, C]`` in float64 to ``[B]``."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FeatureHead(SpaceOption, Head):
    """A head that reads one feature column, in the space asked for."""

    feature: str = option("", "feature column to use (default: the input of the classifier)")

    def __post_init__(self) -> None:
        if self.space != "none" and "classifier" in self.card.needs:
            raise UsageError(f"{self.name} uses the classifier, which is right in no other space than none")
        if self.space in FITTED and not self.card.learns:
            vars(self)["card"] = dataclasses.replace(self.card, learns=True)
        super().__post_init__()

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the one column: that asked for, else the classifier's input."""
        return [self.feature or source.main]

    def vectors(self, block: FeatureSet) -> Tensor:
        """Return the features of a block in the head's space ``[B, D]``; in float64, but for raw ones."""
        return self.into_space(self.raw_vectors(block))

    def raw_vectors(self, block: FeatureSet) -> Tensor:
        """Return the features of a block ``[B, D]`` in float32, or in float64 where they are stored so."""
        values = block.feature(self.feature)[:]
        return values if values.dtype == torch.float64 else values.float()

    def run_fit(self, train: SelectedRows, context: FitContext) -> State:
        """Fit the space, then the head to the rows in it."""
        space = self.fit_space_to(train)
        with self.placed(space):
            return super().run_fit(train, context) | space

    def fit_space_to(self, train: SelectedRows) -> State:
        """Fit the space to the rows of known classes."""
        known = (
            block if block.labels is None else block.rows(block.labels[:] >= 0) for block in train.blocks()
        )
        return self.fit_space(self.raw_vectors(block) for block in known)

    def _adopt(self, state: State, meta: dict[str, Any], device: str = "cpu") -> None:
        super()._adopt(state, meta, device)
        self._place(state)


def _like(source: FeatureSet, values: Tensor) -> Any:
    return values if isinstance(next(source._columns())[1], Tensor) else values.numpy()
