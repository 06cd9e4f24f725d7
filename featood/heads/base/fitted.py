"""The state of a head: a fit, which is replaced as a whole, and options, which never change."""

from __future__ import annotations

__all__ = ["Fitted"]

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from featood.errors import NotFitted
from featood.heads.base.fit import Fit, FitRecord, Saved


class Fitted:
    """State of a head: a fit, and what scoring builds from it. Options never change once a head is made."""

    _fit: Fit | None = None
    _prepared: tuple[Any] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self) and name in {field.name for field in dataclasses.fields(self)}:  # type: ignore[arg-type]
            raise AttributeError(
                f"the options of a head do not change; make another with dataclasses.replace(head, {name}={value!r})"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what `prepare` makes again, such as an index: copies and processes cannot share it."""
        return {name: value for name, value in vars(self).items() if name != "_prepared"}

    @property
    def name(self) -> str:
        """Command-line name."""
        raise NotImplementedError

    @property
    def learns(self) -> bool:
        """Whether it must be fitted with these options; other heads score at once."""
        raise NotImplementedError

    @property
    def fitted(self) -> bool:
        """Whether it has been fitted, or need not be."""
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
        """What it was fitted on and how; empty before a fit."""
        return self._fit.record if self._fit else FitRecord()

    @property
    def meta(self) -> dict[str, Any]:
        """The record as plain values; use `record`."""
        warnings.warn("head.meta is now head.record", DeprecationWarning, stacklevel=2)
        return self.record.as_json()

    @property
    def device(self) -> str:
        """Where it computes."""
        return self._fit.device if self._fit else "cpu"

    @property
    def saved(self) -> Saved | None:
        """The artefact that holds this very fit, where it was saved or comes from one."""
        return self._fit.saved if self._fit else None

    def adopt(self, fit: Fit) -> Self:
        """Take over a fit that was made or saved elsewhere, by a head with the same options."""
        self._fit, self._prepared = fit, None
        return self

    def annotate(self, **facts: Any) -> None:
        """Put what the job around a fit knows into its record (see `FitRecord`); the fit then counts as unsaved."""
        if self._fit is None:
            raise NotFitted(f"{self.name} is not fitted, so there is no record to add to")
        record = dataclasses.replace(self._fit.record, **facts)
        self._fit = dataclasses.replace(self._fit, record=record, saved=None)

    def mark_saved(self, saved: Saved) -> None:
        """Keep in mind which artefact holds this fit."""
        fit = self._fit or Fit({})
        self._fit = dataclasses.replace(fit, saved=saved)
