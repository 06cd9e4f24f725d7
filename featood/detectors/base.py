"""Detectors that wrap a model: what the model computes from a batch, as rows for a head."""

from __future__ import annotations

__all__ = [
    "Detector",
    "FeaturesDetector",
    "GradientDetector",
    "HeadDetector",
    "LogitsDetector",
    "ModelNotSetException",
    "RequiresFittingException",
    "StructuredDetector",
    "WithHead",
]

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from featood.cache import FeatureSet
from featood.detectors.batches import Model, apply_model, extract_features, move
from featood.detectors.utils import as_rows, from_rows
from featood.errors import NotFitted, UsageError
from featood.heads import Head, create_head


class RequiresFittingException(NotFitted):
    """A detector was used before `fit`."""

    def __init__(self, message: str = "call fit() before predict()") -> None:
        super().__init__(message)


class ModelNotSetException(UsageError):
    """A detector without a model was given inputs of the model."""

    def __init__(self, message: str = "predict() and fit() need the model; it is None") -> None:
        super().__init__(message)


class Detector:
    """Base of the detectors: ``fit(loader)``, then ``predict(x)``, higher meaning more out-of-distribution.

    A batch of the loader is a pair of inputs and labels, or a mapping with a key such as ``labels``; inputs with a
    negative label are outliers, which no fit uses. Inputs are a tensor, or a mapping, tuple or list of inputs. A
    mapping is passed to the model as keyword arguments if it has such parameters, as models of transformers have, and
    the ``logits`` of what it returns are used. The model is used in the mode it is in: call ``model.eval()`` first.
    """

    requires_fit: ClassVar[bool] = False
    hyperparameter_space: Mapping[str, Sequence[Any]] = {}
    """Values to try in a :class:`~featood.detectors.GridSearch`, set by the keyword `hyperparameters` of a subclass."""
    _device: torch.device | None = None

    def __init_subclass__(cls, hyperparameters: Mapping[str, Sequence[Any]] | None = None) -> None:
        if hyperparameters is not None:
            cls.hyperparameter_space = hyperparameters

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return `predict`."""
        return self.predict(*args, **kwargs)

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        raise NotImplementedError

    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Fit the detector on the known inputs of a loader, if it has to be fitted."""
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of the modules of the detector."""
        return chain.from_iterable(module.parameters() for module in _modules(vars(self).values()))

    @property
    def device(self) -> torch.device | None:
        """Device of the model, or that of `to`; None if unknown."""
        tensors = (value for value in vars(self).values() if isinstance(value, Tensor))
        first = next(chain(self.parameters(), tensors), None)
        return self._device if first is None else first.device

    def to(self, device: str | torch.device) -> Self:
        """Move modules and tensors of the detector to a device."""
        self._device = torch.device(device)
        for module in _modules(vars(self).values()):
            module.to(self._device)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(self._device))
        return self

    def get_hyperparameters(self) -> dict[str, Any]:
        """Return the values of the hyperparameters."""
        return {name: getattr(self, name) for name in self.hyperparameter_space}

    def set_hyperparameters(self, **values: Any) -> Self:
        """Set hyperparameters; a detector that has to be fitted must be fitted again.

        Raises
        ------
        UsageError
            If the detector has no hyperparameter of this name.
        """
        for name, value in values.items():
            if name not in self.hyperparameter_space:
                have = ", ".join(self.hyperparameter_space) or "none"
                raise UsageError(f"{type(self).__name__} has no hyperparameter '{name}' (it has: {have})")
            setattr(self, name, value)
        return self

    def _moved(self, x: Any) -> Any:
        """Return inputs on the device of the detector, if it is known."""
        return move(x, self.device)

    def _place(self, device: str | torch.device | None) -> torch.device:
        """Move the detector, if a device is given, and return where to compute."""
        return (self if device is None else self.to(device)).device or torch.device("cpu")


class WithHead:
    """Base of the classes whose arguments are options of a head of featood.

    A subclass names the head by the keyword `head`, and the attributes that are values of its options by `options`.
    """

    head_name: str
    """The head, see :func:`featood.list_heads`."""
    head_options: Mapping[str, str] = {}
    """Options of the head, and the attributes that are their values."""

    def __init_subclass__(
        cls, head: str = "", options: Mapping[str, str] | None = None, **keywords: Any
    ) -> None:
        super().__init_subclass__(**keywords)
        if head:
            cls.head_name = head
        if options is not None:
            cls.head_options = options

    def __post_init__(self) -> None:
        self.make_head()  # raises if an option is out of bounds

    def options(self) -> dict[str, Any]:
        """Return the options of the head."""
        return {option: getattr(self, name) for option, name in self.head_options.items()}

    def make_head(self) -> Head:
        """Create the head."""
        return create_head(self.head_name, **self.options())


class HeadDetector(WithHead, Detector):
    """Base of the detectors that score by a head of featood."""

    head_: Head | None = None
    """The fitted head, which can be saved."""

    def fit_rows(self, rows: FeatureSet) -> Self:
        """Fit the head; rows with a negative label are ignored."""
        self.head_ = self.make_head().fit(rows, device=str(self._home(rows)))
        return self

    def _home(self, rows: FeatureSet) -> torch.device:
        """Return the device of the detector or, if it has none, that of the rows."""
        column: Any = next(iter(rows.features.values()), rows.logits)
        return self.device or column.device

    def score_rows(self, rows: FeatureSet) -> Tensor:
        """Score rows ``[N]`` in float64.

        Raises
        ------
        RequiresFittingException
            If the detector was not fitted, or not with its present options.
        """
        if not self.requires_fit:
            self.fit_rows(rows)
        if self.head_ is None:
            raise RequiresFittingException()
        options = self.head_.options
        if changed := [name for name, value in self.options().items() if options[name] != value]:
            raise RequiresFittingException(f"fit() again: {', '.join(changed)} changed since the fit")
        return cast(Tensor, self.head_.score(rows)).to(self._home(rows))


@dataclass(eq=False, repr=False)
class LogitsDetector(HeadDetector):
    """A detector that scores logits ``[B, C]``, or ``[B, C, H, W]`` for one score per pixel.

    Parameters
    ----------
    model : callable or None
        Inputs to logits; None if only the methods on logits are used.
    """

    model: Model | None

    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Fit the detector on the known inputs of a loader, if it has to be fitted."""
        if not self.requires_fit:
            return self
        return self.fit_logits(*extract_features(data_loader, given(self.model), self._place(device)))

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores of inputs ``[B, ...]``."""
        model = given(self.model)
        if self.requires_fit and self.head_ is None:
            raise RequiresFittingException()
        with torch.no_grad():
            return self.predict_logits(apply_model(model, self._moved(x)))

    def fit_logits(self, logits: Tensor, y: Tensor | None = None) -> Self:
        """Fit the detector on logits ``[N, C]`` with labels ``[N]``, if it has to be fitted."""
        if not self.requires_fit:
            return self
        return self.fit_rows(FeatureSet(logits=logits, labels=None if y is None else y.long()))

    def predict_logits(self, logits: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` or ``[B, H, W]`` of logits."""
        return from_rows(self.score_rows(FeatureSet(logits=as_rows(logits))), logits)

    fit_features, predict_features = fit_logits, predict_logits  # names of earlier versions

    @classmethod
    def score(cls, logits: Tensor, *args: Any, **options: Any) -> Tensor:
        """Score logits without a detector; the arguments after them are those of the class after the model."""
        return cls(None, *args, **options).predict_logits(logits)


@dataclass(eq=False, repr=False)
class FeaturesDetector(HeadDetector):
    """A detector that scores features ``[B, D]``.

    Parameters
    ----------
    encoder : callable or None
        Inputs to features; None if only the methods on features are used. Features of other shapes are flattened.
    """

    encoder: Model | None

    def fit(self, data_loader: Iterable[Any], device: str | torch.device | None = None) -> Self:
        """Fit the detector on the known inputs of a loader, if it has to be fitted."""
        if not self.requires_fit:
            return self
        return self.fit_features(
            *extract_features(data_loader, given(self.encoder, "encoder"), self._place(device))
        )

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores ``[B]`` of inputs ``[B, ...]``."""
        encoder = given(self.encoder, "encoder")
        if self.requires_fit and self.head_ is None:
            raise RequiresFittingException()
        with torch.no_grad():
            return self.predict_features(apply_model(encoder, self._moved(x)))

    def fit_features(self, z: Tensor, y: Tensor | None = None) -> Self:
        """Fit the detector on features ``[N, D]`` with labels ``[N]``, if it has to be fitted."""
        return self.fit_rows(self.rows(z, y)) if self.requires_fit else self

    def predict_features(self, z: Tensor) -> Tensor:
        """Return the outlier scores ``[B]`` of features ``[B, D]``."""
        return self.score_rows(self.rows(z))

    def rows(self, z: Tensor, y: Tensor | None = None) -> FeatureSet:
        """Return features and labels, with the classifier or the logits if the head needs them."""
        return FeatureSet({"features": z.detach().flatten(1)}, labels=None if y is None else y.long())


class GradientDetector(Detector):
    """Base of the detectors that differentiate a model."""


class StructuredDetector(Detector):
    """Base of the detectors that score the outputs of several layers."""


def given(part: Model | None, name: str = "model") -> Model:
    """Return a part of a model, or raise if it is None."""
    if part is None:
        raise ModelNotSetException(f"predict() and fit() need the {name}; it is None")
    return part


def _modules(values: Iterable[Any]) -> Iterator[nn.Module]:
    """Iterate over modules, those in lists, and those of which a value is a method."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _modules(value)
        elif isinstance(owner := getattr(value, "__self__", value), nn.Module):
            yield owner
