"""The training loop of every network: exact to resume, the same for a seed, and safe when it diverges."""

from __future__ import annotations

__all__ = ["Losses", "TrainingResult", "train"]

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featood.training.averaging import MovingAverage
from featood.training.checkpoint import (
    clear_checkpoint,
    load_checkpoint,
    restore,
    save_checkpoint,
    snapshot,
)
from featood.training.early_stopping import BestState
from featood.training.schedules import Schedule, constant

Losses = Mapping[str, Tensor]
"""Scalars of one batch by name; the one called ``loss`` is minimised, the others are only reported."""
PAST = "history."


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What became of a training."""

    steps: int
    """Updates that went into the parameters as they are now."""
    diverged: bool
    """Whether it was stopped, and the last good state put back."""
    history: dict[str, list[float]]
    """Every step's losses by name, that at which it diverged included; and the validations, if any."""

    @property
    def losses(self) -> list[float]:
        """The minimised loss at every step."""
        return self.history.get("loss", [])

    @property
    def summary(self) -> dict[str, Any]:
        """Steps, whether it diverged, the last loss, and the lowest on held-out rows where there were any."""
        held = [loss for loss in self.history.get("validation", []) if not math.isnan(loss)]
        summary = {"steps": self.steps, "diverged": self.diverged, "loss": (self.losses or [math.nan])[-1]}
        return summary | ({"validation": min(held)} if held else {})


def train(
    losses: Callable[[int], Losses],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    *,
    schedule: Schedule = constant,
    accumulate: int = 1,
    clip: float | None = None,
    average: float = 0.0,
    generators: Sequence[torch.Generator] = (),
    progress: Callable[..., None] | None = None,
    checkpoint: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    every: int = 500,
    explosion: float = 1e4,
    validate: Callable[[], float] | None = None,
    patience: int = 10,
) -> TrainingResult:
    """Minimise a loss.

    Given the same model, generators and seeds, the result is the same to the last bit (on one machine and
    number of threads), whether or not it was interrupted and resumed in between.

    Parameters
    ----------
    losses : callable
        From the number of a batch, counted from 0 through all epochs (see :class:`Batches`), to its losses.
        All its randomness must come from that number or from `generators`.
    model : Module
        Holds every parameter, and as buffers whatever else must survive an interruption.
    optimizer : Optimizer
        Over the model's parameters, with the full learning rates.
    steps : int
        Updates to make.
    schedule : callable
        Factor on the learning rates at each step.
    accumulate : int
        Batches to average the gradient over in each update.
    clip : float, optional
        Largest norm of the gradient.
    average : float
        Decay of a moving average of the parameters; with it the model is validated, and ends, as the average.
    generators : sequence of torch.Generator
        Sources of randomness in `losses`.
    progress : callable, optional
        Called as ``progress(step, total, loss=..., ...)`` after each update.
    checkpoint : Path, optional
        Folder to resume from and to keep a checkpoint in; emptied when the training ends.
    settings : mapping, optional
        What identifies the training (options, data) as JSON; a checkpoint with other settings is refused.
    every : int
        Updates between two good states.
    explosion : float
        A loss this many times the first one (or 1, if that is larger) counts as divergence.
    validate : callable, optional
        Returns the loss on held-out rows, drawing nothing from `generators`. It is called with every good
        state and at the end, its values are ``history["validation"]``, and the model ends in the state that
        has the lowest.
    patience : int
        Validations in turn without a new lowest that end the training early.

    Returns
    -------
    TrainingResult
        The model is trained in place.

    Raises
    ------
    Mismatch
        When the checkpoint is of a training with other settings.
    CacheCorrupt
        When the checkpoint is damaged.

    Warns
    -----
    UserWarning
        When the loss was not finite or exploded: the model is back in the last good state. When the loss on
        held-out rows was never a number: nothing could be chosen by it.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    settings = {**(settings or {}), "steps": steps}
    history: dict[str, list[float]] = {}
    best = BestState(validate, patience) if validate is not None else None
    mean = MovingAverage(model, average) if average else None
    start = 0

    def capture() -> dict[str, Tensor]:
        return snapshot(model, optimizer, generators) | (mean.tensors() if mean is not None else {})

    def enough(step: int) -> bool:
        with mean.applied() if mean is not None else contextlib.nullcontext():
            return best is not None and best.check(step, capture())

    if checkpoint is not None and (found := load_checkpoint(checkpoint, settings)) is not None:
        start, tensors = found
        restore(tensors, model, optimizer, generators)
        history = {
            name.removeprefix(PAST): past.tolist() for name, past in tensors.items() if name.startswith(PAST)
        }
        if best is not None:
            best.load(tensors)
        if mean is not None:
            mean.load(tensors)
    good_step, good = start, capture()
    trial: dict[str, Tensor] | None = None
    diverged = False
    final = steps
    for step in range(start, steps):
        if step % every == 0:
            trial = capture()
            if enough(step):
                final = step
                break
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step)
        optimizer.zero_grad(set_to_none=True)
        values = _backward(losses, range(step * accumulate, (step + 1) * accumulate))
        for name, value in values.items():
            history.setdefault(name, []).append(value)
        limit = explosion * max(1.0, abs(history["loss"][0]))
        if diverged := not abs(values["loss"]) <= limit:  # NaN is not below the limit either
            break
        if trial is not None:  # the loss is sound, so is the state that it was computed from
            good_step, good, trial = step, trial, None
            if checkpoint is not None:
                for name, past in history.items():
                    good[PAST + name] = torch.tensor(past[:step], dtype=torch.float64)
                kept = good if best is None else good | best.tensors()
                save_checkpoint(checkpoint, step, kept, settings)
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        if mean is not None:
            mean.update()
        if progress is not None:
            progress(step + 1, steps, **values)
    else:
        diverged = not all(bool(torch.isfinite(parameter).all()) for parameter in parameters)
        if not diverged:
            enough(steps)
    if diverged:
        final = good_step
        restore(good, model, optimizer, generators)
        if mean is not None:
            mean.load(good)
    if best is not None:
        history["validation"] = best.losses
    if best is not None and best.state is not None:
        final = best.step
        restore(best.state, model, optimizer, generators)  # its weights are the average already
    elif mean is not None:
        mean.write()
    if diverged:
        warnings.warn(
            f"training diverged at step {len(history['loss'])} of {steps} (loss {history['loss'][-1]:.3g}): "
            f"it was stopped and the state after step {final} kept; lower the learning rate",
            stacklevel=2,
        )
    elif best is not None and best.state is None:
        warnings.warn(
            f"the loss on held-out rows was never a number: the state after step {final} of {steps} was kept",
            stacklevel=2,
        )
    if checkpoint is not None:
        clear_checkpoint(checkpoint)
    return TrainingResult(final, diverged, history)


def _backward(losses: Callable[[int], Losses], numbers: range) -> dict[str, float]:
    """Accumulate the gradient over batches, and return their mean losses."""
    values: dict[str, float] = {}
    for number in numbers:
        batch = losses(number)
        (batch["loss"] / len(numbers)).backward()
        for name, value in batch.items():
            values[name] = values.get(name, 0.0) + float(value.detach()) / len(numbers)
    return values
