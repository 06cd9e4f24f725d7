"""Training a network with several seeds."""

from __future__ import annotations

__all__ = ["Repetitions", "train_repeated"]

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from featood.errors import FeatoodError, UsageError
from featood.extractors.models import create_model
from featood.extractors.trainer import (
    Architecture,
    TrainOptions,
    is_extractor,
    leads,
    load_extractor,
    processes,
)
from featood.metrics import mean_and_error
from featood.numerics.devices import pick_device
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor
from featood.reporter import SILENT, Reporter

SOURCES = ("dataset", "split", "outliers", "mixing_set", "initial", "limit", "image_size", "mean", "std")
"""Fields of a plan that a trained network records."""


class Repetitions(NamedTuple):
    """The trainings of several seeds."""

    summaries: Mapping[int, Mapping[str, Any]]
    """Summary of each network by its seed."""
    failed: Mapping[int, str]
    """By seed, why a training failed."""

    @property
    def means(self) -> dict[str, tuple[float, float]]:
        """Mean and standard error of the figures that all networks have."""
        found = self.summaries.values()
        shared = [key for key in next(iter(found), {}) if all(key in summary for summary in found)]
        keys = [
            *[key for key in shared if key.startswith("validation_")],
            *[key for key in shared if key == "loss"],
        ]
        return {key: mean_and_error([summary[key] for summary in found]) for key in keys}


def train_repeated(
    plan: TrainPlan, options: TrainOptions, repeat: int, *, reporter: Reporter = SILENT
) -> Repetitions:
    """Train a network with the seeds K from ``options.seed`` on, in the folders ``seed-K`` of ``plan.out``.

    Networks that are already there are kept, so an interrupted repetition resumes. A training that fails is reported,
    and the next one begins.

    Raises
    ------
    UsageError
        If a folder has a network that was trained with other settings, or the options are wrong.
    FeatoodError
        If all trainings failed: the error of the last.
    """
    if not leads():
        reporter = SILENT
    summaries: dict[int, Mapping[str, Any]] = {}
    failed: dict[int, str] = {}
    with processes(pick_device(options.device).type == "cuda"):  # once: they cannot meet again
        for turn, seed in enumerate(range(options.seed, options.seed + repeat), 1):
            own = dataclasses.replace(plan, out=plan.out / f"seed-{seed}")
            how = dataclasses.replace(options, seed=seed)
            reporter.line(f"{turn} of {repeat}: {own.out}")
            if is_extractor(own.out) and not plan.overwrite:
                summaries[seed] = _summary(own, how)
                reporter.line(f"{own.out} is complete")
                continue
            try:
                summaries[seed] = train_extractor(own, how, reporter=reporter)
            except UsageError:
                raise
            except (FeatoodError, RuntimeError, OSError) as error:
                if len(failed) == repeat - 1:
                    raise
                failed[seed] = f"{type(error).__name__}: {' '.join(str(error).split())}"
                reporter.line(f"warning: seed {seed} failed ({failed[seed]})")
    return Repetitions(summaries, failed)


def _summary(plan: TrainPlan, options: TrainOptions) -> Mapping[str, Any]:
    """Return the summary of a trained network.

    Raises
    ------
    UsageError
        If its settings are others.
    """
    _, facts, summary = load_extractor(plan.out)
    model = create_model(plan.model, plan.options)
    theirs = {
        **facts.training, "model": facts.model.name, "model_options": dataclasses.asdict(facts.model),
        "architecture": facts.architecture, **facts.data,
    }  # fmt: skip
    ours = {
        **dataclasses.asdict(options), "model": model.name, "model_options": dataclasses.asdict(model),
        "architecture": plan.architecture, **{name: getattr(plan, name) for name in SOURCES},
    }  # fmt: skip
    for name in ("workers", "device"):  # which do not decide the result
        del ours[name]
    defaults = {**dataclasses.asdict(TrainOptions()), "limit": 0, "image_size": 0, "mean": None, "std": None}
    differing = [
        name
        for name, value in ours.items()
        if _plain(theirs.get(name, defaults.get(name, ""))) != _plain(value)
    ]
    if differing:
        raise UsageError(
            f"{plan.out} contains a network trained with other settings ({', '.join(differing)}); "
            "choose another folder, or add --overwrite"
        )
    return summary


def _plain(value: Any) -> Any:
    """Return a value as read back from JSON."""
    return list(value) if isinstance(value, tuple) and not isinstance(value, Architecture) else value
