"""A detector that runs a model several times with dropout."""

from __future__ import annotations

__all__ = ["MCD"]

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featood.detectors.base import Detector, given
from featood.detectors.batches import apply_model
from featood.detectors.utils import as_rows, from_rows
from featood.errors import UsageError
from featood.extractors.dropout import dropping, drops, seeded
from featood.numerics.mixtures import mean_log_probabilities, probability_variance


@dataclass(eq=False, repr=False)
class MCD(Detector):
    """Disagreement (``var``) of passes with dropout, or negated largest mean probability (``mean``).

    These are two scores of the head ``mc-dropout``. Only dropout layers are random: batch normalisation keeps its
    statistics. Every call draws the same. Without dropout all passes are equal, which is a warning.

    References
    ----------
    Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from featood.detectors import MCD
    >>> model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(8, 3)).eval()
    >>> MCD(model, samples=10)(torch.rand(5, 8)).shape
    torch.Size([5])
    """

    model: nn.Module
    samples: int = 30
    mode: str = "var"

    def __post_init__(self) -> None:
        if self.mode not in ("var", "mean"):
            raise UsageError(f"mode is var or mean, not '{self.mode}'")
        if self.samples < (least := 2 if self.mode == "var" else 1):
            raise UsageError(f"the mode {self.mode} needs at least {least} samples, not {self.samples}")

    def predict(self, x: Any) -> Tensor:
        """Return the outlier scores ``[B]`` or ``[B, H, W]`` of inputs."""
        largest, variance = self.run(self.model, self._moved(x), self.samples)
        return variance if self.mode == "var" else -largest

    @staticmethod
    def run(model: nn.Module, x: Any, samples: int) -> tuple[Tensor, Tensor]:
        """Return the largest mean probability and the mean variance over the classes, ``[B]`` or ``[B, H, W]`` each."""
        draws = _draw(model, x, samples)
        rows = [as_rows(draw) for draw in draws]
        largest = mean_log_probabilities(rows).exp().amax(1)
        return from_rows(largest, draws[0]), from_rows(probability_variance(rows), draws[0])

    @staticmethod
    def run_mean(model: nn.Module, x: Any, samples: int) -> Tensor:
        """Return the mean probabilities ``[B, C]`` or ``[B, C, H, W]``."""
        draws = _draw(model, x, samples)
        mean = mean_log_probabilities([as_rows(draw) for draw in draws]).exp()
        return torch.stack([from_rows(column, draws[0]) for column in mean.unbind(1)], 1)


def _draw(model: nn.Module, x: Any, samples: int) -> list[Tensor]:
    """Return the logits of several passes."""
    given(model)
    random, first = drops(model), next(model.parameters(), torch.empty(0))
    if not random:
        warnings.warn("the model has no dropout: all passes are equal, and their variance is 0", stacklevel=4)
    with (
        torch.no_grad(),
        dropping(model, 0.0) if random else contextlib.nullcontext(),
        seeded(first.device, 0),
    ):
        return [apply_model(model, x) for _ in range(samples)]
