"""The training loop of all networks: reproducible, resumed exactly, and with recovery from divergence."""

from __future__ import annotations

__all__ = ["Losses", "TrainingResult", "train"]

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featood.objects import Location
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
"""Scalars of one batch by name; ``loss`` is minimised, the others are only reported."""
PAST = "history."


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """Result of a training."""

    steps: int
    """Number of updates of the returned parameters."""
    diverged: bool
    """Whether training was stopped and the last good state restored."""
    history: dict[str, list[float]]
    """Losses of every step by name, including a step at which it diverged, and the losses of validations, if any."""
    last: Mapping[str, Tensor] | None = None
    """State of the model after the last update, if an earlier state was restored because its validation was better."""

    @property
    def losses(self) -> list[float]:
        """The minimised loss at every step."""
        return self.history.get("loss", [])

    @property
    def summary(self) -> dict[str, Any]:
        """Steps, whether training diverged, the last loss, and the lowest loss on held-out rows, if any."""
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
    checkpoint: Location | None = None,
    writes: bool = True,
    keep_checkpoint: bool = False,
    settings: Mapping[str, Any] | None = None,
    every: int = 500,
    explosion: float = 1e4,
    validate: Callable[[], float] | None = None,
    patience: int = 10,
    keep_best: bool = True,
) -> TrainingResult:
    """Minimise a loss.

    For the same model, generators and seeds, the result is bit-identical (on the same machine and with the same number
    of threads), also if the training was interrupted and resumed.

    Parameters
    ----------
    losses : callable
        Maps the number of a batch, counted from 0 through all epochs (see :class:`Batches`), to its losses. Random
        numbers must come from this number or from `generators`.
    model : Module
        Contains all parameters, and as buffers all other state needed for resumption.
    optimizer : Optimizer
        Optimiser of the model's parameters, with the initial learning rates.
    steps : int
        Number of updates.
    schedule : callable
        Factor on the learning rates at each step.
    accumulate : int
        Number of batches over which the gradient of an update is averaged.
    clip : float, optional
        Maximum norm of the gradient.
    average : float
        Decay of a moving average of the parameters. If positive, the average is validated and returned.
    generators : sequence of torch.Generator
        Random generators of `losses`.
    progress : callable, optional
        Called as ``progress(step, total, loss=..., ...)`` after each update.
    checkpoint : Path or ObjectPath, optional
        Folder of the checkpoint, from which training resumes; emptied when training ends.
    writes : bool
        Whether to write to this folder; if several processes train together, one of them does.
    keep_checkpoint : bool
        Whether to leave the checkpoint to the caller, who removes it once the result is saved.
    settings : mapping, optional
        Settings that identify the training (options, data), as JSON; a checkpoint with other settings is refused.
    every : int
        Number of updates between two good states.
    explosion : float
        A loss of this many times the first loss, or 1 if that is larger, counts as divergence.
    validate : callable, optional
        Returns the loss on held-out rows, without use of `generators`. It is called for every good state and at the
        end; its values are ``history["validation"]``. The state with the lowest value is returned.
    patience : int
        Number of consecutive validations without a new minimum after which training stops.
    keep_best : bool
        Whether the state with the lowest validation loss is returned, instead of the last.

    Returns
    -------
    TrainingResult
        The model is trained in place.

    Raises
    ------
    Mismatch
        If the checkpoint belongs to a training with other settings.
    CacheCorrupt
        If the checkpoint is damaged.

    Warns
    -----
    UserWarning
        If the loss was not finite or exploded, so that the last good state was restored; or if the loss on held-out
        rows was always NaN, so that no state could be selected.
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

    def should_stop(step: int) -> bool:
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
            if should_stop(step):
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
        if trial is not None:  # the loss is finite, so the state is good
            good_step, good, trial = step, trial, None
            if checkpoint is not None and writes:
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
            should_stop(steps)
    if diverged:
        final = good_step
        restore(good, model, optimizer, generators)
        if mean is not None:
            mean.load(good)
    last = None
    if best is not None:
        history["validation"] = best.losses
    if best is not None and best.state is not None and keep_best:
        last = {name: value.detach().clone() for name, value in model.state_dict().items()}
        final = best.step
        restore(best.state, model, optimizer, generators)  # contains the average, if there is one
    elif mean is not None:
        mean.write()
    if diverged:
        warnings.warn(
            f"training diverged at step {len(history['loss'])} of {steps} (loss {history['loss'][-1]:.3g}): "
            f"it was stopped, and the state after step {final} is used; lower the learning rate",
            stacklevel=2,
        )
    elif best is not None and best.state is None:
        warnings.warn(
            f"the loss on held-out rows was always NaN: the state after step {final} of {steps} is used",
            stacklevel=2,
        )
    if checkpoint is not None and writes and not keep_checkpoint:
        clear_checkpoint(checkpoint)
    return TrainingResult(final, diverged, history, last)


def _backward(losses: Callable[[int], Losses], numbers: range) -> dict[str, float]:
    """Accumulate the gradient over batches, and return their mean losses."""
    values: dict[str, float] = {}
    for number in numbers:
        batch = losses(number)
        (batch["loss"] / len(numbers)).backward()
        for name, value in batch.items():
            values[name] = values.get(name, 0.0) + float(value.detach()) / len(numbers)
    return values
