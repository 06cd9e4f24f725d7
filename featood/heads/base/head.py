"""Base class of all heads: options, checks, blocks, state. A subclass adds only its formula and tensors."""

from __future__ import annotations

__all__ = ["WORST", "Head"]

import dataclasses
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.engines import LOCAL, Engine
from featood.errors import DataError
from featood.heads.base.calibration import Calibrated
from featood.heads.base.fit import (
    Fit,
    FitContext,
    FitRecord,
    Learned,
    State,
    check_match,
    collect_warnings,
)
from featood.heads.base.rows import NUMBERS, SelectedRows, in_columns, number_classes
from featood.heads.index import Card
from featood.objects import Location
from featood.options import check_options, option
from featood.reporter import TerminalReporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORST = 1e150
"""Score of a row that cannot be scored: more out-of-distribution than any row, above the square of any float32.

Its square is finite in float64, and therefore so are means and standard deviations of scores."""
WITHOUT = "knn and mahalanobis need features only, and featood cache add-classifier adds logits to them"
"""What to do without a classifier."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Head(Calibrated):
    """Base of all heads: ``fit(set)``, then ``score(set)``, higher meaning more out-of-distribution.

    A subclass declares its options as fields, and implements `fit_state` (rows to named tensors) and `score_block`
    (block and tensors to scores); a classifier also implements `classify_block`. It keeps no other state: the result of
    `fit_state` is saved, and `prepare` turns it into the objects needed for scoring.
    """

    card: ClassVar[Card]
    described: ClassVar[str] = ""
    """The docstring without generated sections."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    trains: ClassVar[bool] = False
    """Whether a fit trains a network: minutes rather than seconds."""
    composes: ClassVar[bool] = False
    """Whether it combines other heads, see `create_members`."""
    least_classes: ClassVar[int] = 1
    """Smallest number of logits per row for which the formula is defined, if the head needs logits."""
    testing_options: ClassVar[Mapping[str, Any]] = {}
    """Options with which a slow head is fast enough for the conformance suite (see `featood.testing`)."""

    nonfinite: str = option(
        "error",
        "rows with NaN or infinite values: raise an error, or drop them from the fit and give them the highest score",
        choices=("error", "drop"),
    )

    # ---- implemented by subclasses ----------------------------------------------------------------

    def fit_state(self, train: SelectedRows) -> State:
        """Compute the tensors needed for scoring from training rows."""
        return {}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block of rows ``[B]``; `fitted` is the result of `prepare`."""
        raise NotImplementedError

    def classify_block(self, block: FeatureSet, fitted: Any) -> Tensor | None:
        """Return finite logits ``[B, K]`` of the fit's classes, or None if the head is not a classifier."""
        return None

    def prepare(self, state: State) -> Any:
        """Build the objects used in scoring (an index, a network) from the saved tensors; by default, the tensors."""
        return state

    def columns(self, source: FeatureSet) -> list[str]:
        """Feature columns of a set to fit on."""
        return []

    def create_members(self) -> list[Head]:
        """Create the unfitted members of a composition."""
        return []

    def resolve_options(self) -> Mapping[str, Any]:
        """Return values of options that depend on other options; called once, when the head is created."""
        return {}

    def transform_block(self, block: FeatureSet, state: Mapping[str, Tensor]) -> FeatureSet:
        """Transform a block into the space that `score_block` and `classify_block` expect."""
        return block

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Fit within a context; heads that train a network override this instead of `fit_state`."""
        return Learned(self.fit_state(train))

    # ---- public attributes ------------------------------------------------------------------------

    def __post_init__(self) -> None:
        for name, value in self.resolve_options().items():
            object.__setattr__(self, name, value)
        check_options(self)

    @property
    def name(self) -> str:
        """Command-line name."""
        return self.card.name

    @property
    def needs(self) -> tuple[str, ...]:
        """Required inputs with these options, see `featood.heads.Card`."""
        return self.card.needs

    @property
    def learns(self) -> bool:
        """Whether it must be fitted before scoring, with these options."""
        return self.card.learns

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of its scores, the default first; empty if it has only one."""
        return self.card.scores

    @property
    def takes_outliers(self) -> bool:
        """Whether it learns from outliers with these options."""
        return self._keeps_outliers

    @property
    def options(self) -> dict[str, Any]:
        """Options and their values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def classes(self) -> Tensor | None:
        """Class numbers ``[C]`` of the columns of `classify`; None if they are 0 to C - 1."""
        return self.state.get(NUMBERS) if self.record.num_classes is None else None

    # ---- public methods ---------------------------------------------------------------------------

    def fit(
        self, train: Any, labels: Any = None, *, context: FitContext | None = None, device: str = "cpu"
    ) -> Self:
        """Fit the head on in-distribution rows.

        Parameters
        ----------
        train : FeatureSet or array
            A set with the columns that the card lists; or plain features ``[N, D]``, with `labels` ``[N]``.
        labels : array, optional
            Class labels for plain features; rows with a negative label are ignored.
        context : FitContext, optional
            Progress and checkpoints, for heads that train a network. By default, a training of more than two seconds
            shows its progress on a terminal or in a notebook.
        device : str
            Device to compute on; ``auto`` is the GPU if there is one.

        Returns
        -------
        Head
            This head, fitted.

        Raises
        ------
        DataError
            If the set lacks a column, has no rows, or contains non-finite values.
        UsageError
            If the device is not available.
        """
        source = as_feature_set(train, labels)
        with collect_warnings() as notes:  # selecting the columns may warn too
            rows = self.select(source, fitting=True, device=device)
            if not len(source):
                raise DataError(f"{self.name}: {source.name} has no rows to fit on")
            if context is not None:
                rows.engine = context.engine
            if context is None and self.trains:
                with TerminalReporter(after=2.0) as reporter:
                    state, training = self.run_fit(rows, FitContext(reporter.task(f"training {self.name}")))
            else:
                state, training = self.run_fit(rows, context or FitContext())
        numbers, count = number_classes(rows) if self._classifies else ({}, None)
        record = FitRecord.of(source, rows, notes, num_classes=count, training=dict(training))
        return self.adopt(Fit({**state, **numbers}, record, str(rows.device)))

    @overload
    def score(self, data: Tensor, *, force: bool = False, engine: Engine = ...) -> Tensor: ...

    @overload
    def score(
        self, data: np.ndarray, *, force: bool = False, engine: Engine = ...
    ) -> NDArray[np.float64]: ...

    @overload
    def score(self, data: Any, *, force: bool = False, engine: Engine = ...) -> Any: ...

    def score(self, data: Any, *, force: bool = False, engine: Engine = LOCAL) -> Any:
        """Score rows.

        Parameters
        ----------
        data : FeatureSet or array
            Rows to score, with the columns that the head was fitted on.
        force : bool
            Accept features with another fingerprint.
        engine : Engine
            Where the blocks are scored; see :mod:`featood.engines`.

        Returns
        -------
        ndarray or Tensor
            ``[N]`` float64, higher = more out-of-distribution; a tensor if the columns are tensors.

        Raises
        ------
        NotFitted
            Before `fit`.
        Mismatch
            If the features come from another backbone, or have another size, than those of the fit.
        DataError
            If values are not finite, unless ``nonfinite="drop"``.
        """
        source = as_feature_set(data)
        rows = self._rows_to_score(source, force, engine)
        parts, unscored = [], 0
        for given, keep in rows.map(self._score_kept):
            broken = ~(torch.isfinite(given) & (given < WORST))
            unscored += int(broken.sum())
            parts.append(torch.full((len(keep),), WORST, dtype=torch.float64))
            parts[-1][keep] = given.masked_fill(broken, WORST)
        if unscored:
            warnings.warn(f"{self.name}: {unscored} rows of {source.name} got no finite score", stacklevel=2)
        return _like(source, torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64))

    def classify(self, data: Any, *, force: bool = False, engine: Engine = LOCAL) -> Any:
        """Return the head's own class logits ``[N, C]``, or None if it does not classify.

        Their softmax gives the class probabilities of the head; dropped rows get zeros. The columns are those of the
        classifier of the training set; without a classifier, there is one column for each class that has rows, and
        `classes` gives the class numbers. Arguments and errors are those of `score`.
        """
        if not self._classifies:
            return None
        source, parts = as_feature_set(data), []
        count = self.record.num_classes
        for logits, keep in self._rows_to_score(source, force, engine).map(self._classify_kept):
            if logits is None:
                return None
            if count is not None:
                logits = in_columns(logits, self.state[NUMBERS], count)
            parts.append(torch.zeros(len(keep), logits.shape[1], dtype=torch.float64))
            parts[-1][keep] = logits
        return _like(source, torch.cat(parts) if parts else torch.empty(0, 0, dtype=torch.float64))

    def score_checked(self, block: FeatureSet) -> Tensor:
        """Score a block ``[B]`` with the columns of the fit and finite rows; used by compositions."""
        return self.score_block(self.transform_block(block, self.state), self.prepared)

    @property
    def prepared(self) -> Any:
        """The result of `prepare`, computed at the first call."""
        if self._prepared is None:
            self._prepared = (self.prepare(dict(self.state)),)
        return self._prepared[0]

    def check_match(self, source: FeatureSet, force: bool = False) -> None:
        """Raise if the features do not match those that the head was fitted on.

        Raises
        ------
        Mismatch
            If fingerprints or sizes differ.
        """
        check_match(self.name, self.record, source, force)

    def save(self, path: str | Location) -> Any:
        """Save the fitted head to a folder: ``head.safetensors``, ``head.json`` and a README."""
        from featood.heads.artefacts.artefact import save_head

        return save_head(self, path)

    def select(self, source: FeatureSet, fitting: bool, device: str = "cpu") -> SelectedRows:
        """Select the columns of a set that the head reads, for fitting or scoring.

        Raises
        ------
        DataError
            If the set lacks one of them.
        """
        needs = self.needs
        if "logits" in needs:
            if source.logits is None:
                raise DataError(f"{self.name} needs logits, which {source.name} does not have; {WITHOUT}")
            if (classes := source.logits.shape[1]) < self.least_classes:
                raise DataError(
                    f"{self.name} needs logits of at least {self.least_classes} classes; those of {source.name} "
                    f"have {classes}"
                )
        if fitting and "labels" in needs and source.labels is None:
            raise DataError(f"{self.name} needs labels to fit, which {source.name} does not have")
        if "classifier" in needs and source.classifier is None and fitting:
            raise DataError(
                f"{self.name} needs the classifier's weight and bias, which {source.name} lacks; {WITHOUT}"
            )
        return SelectedRows(
            source,
            self.names(source, fitting) or ([source.main] if source.features else ["logits"]),
            self.nonfinite,
            known_only=fitting and not self._keeps_outliers,
            device=device,
            ranked=fitting and self._ranks,
        )

    def names(self, source: FeatureSet, fitting: bool) -> list[str]:
        """Names of the columns that the head reads; after a fit, those of the fit."""
        fitted = [name for name in self.record.sizes if name != "logits"]
        names = self.columns(source) if fitting or not fitted else fitted
        if "logits" in self.needs:
            names.append("logits")
        if fitting and source.labels is not None:
            names.append("labels")
        return names

    def _repr_html_(self) -> str:
        """Return fit and options as a table for notebooks."""
        from featood.notebook import html_table

        fit = f"fitted on {self.record.fitted_on}" if self.record.fitted_on else "not fitted"
        status = fit if self.learns else "needs no fit"
        title = f"{self.name} ({self.card.title}), {status}"
        return html_table(title, ("option", "value"), self.options.items())

    # ---- private ----------------------------------------------------------------------------------

    @property
    def _keeps_outliers(self) -> bool:
        """Whether it learns from outliers with any options; other heads drop them before a fit."""
        return "outliers" in (*self.needs, *self.card.uses)

    @property
    def _ranks(self) -> bool:
        """Whether the fit gets ranks of the classes that have rows; a head of logits gets the numbers of columns."""
        return "logits" not in self.needs

    @property
    def _classifies(self) -> bool:
        return type(self).classify_block is not Head.classify_block

    def _rows_to_score(self, source: FeatureSet, force: bool, engine: Engine) -> SelectedRows:
        self.check_match(source, force)
        rows = self.select(source, fitting=False, device=self.device)
        rows.engine = engine
        _ = self.prepared  # raises NotFitted before any row is read
        return rows

    @torch.no_grad()
    def _score_kept(self, block: FeatureSet) -> Tensor:
        return self.score_checked(block).double().cpu() if len(block) else torch.empty(0, dtype=torch.float64)

    @torch.no_grad()
    def _classify_kept(self, block: FeatureSet) -> Tensor | None:
        logits = self.classify_block(self.transform_block(block, self.state), self.prepared)
        return None if logits is None else logits.double().cpu()


def _like(source: FeatureSet, values: Tensor) -> Any:
    return values if isinstance(next(source._columns())[1], Tensor) else values.numpy()
