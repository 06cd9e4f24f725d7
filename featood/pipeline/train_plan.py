"""What to train and on what, by name, and the plan of a recipe."""

from __future__ import annotations

__all__ = ["TrainPlan", "architecture_of", "own_defaults", "plan_of_recipe"]

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featood.errors import UsageError
from featood.extractors.models import model_class
from featood.extractors.trainer import Architecture, TrainOptions, find_recipe
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What to train, and on what, by name."""

    model: str
    """See :func:`featood.extractors.models.list_models`."""
    dataset: str
    """A name or a path; see :func:`featood.data.open_dataset`."""
    architecture: Architecture
    out: Path
    """Folder to write; while training, a folder of this name followed by ``.training`` has the checkpoint."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the model."""
    split: str = "train"
    outliers: str = ""
    """A set to train on as outliers, as ``NAME`` or ``NAME/SPLIT``."""
    limit: int = 0
    """Largest number of images of each set, the first of them (0: all)."""
    mixing_set: str = ""
    """Images that the augmentation ``pixmix`` mixes in, as ``NAME`` or ``NAME/SPLIT``."""
    image_size: int = 0
    """Side of the input in pixels (0: that of the dataset or the architecture)."""
    max_length: int = 256
    """Number of words after which a text is cut off."""
    vocabulary: int = 10_000
    """Largest number of different words of texts; all others count as one."""
    data_dir: str | None = None
    strict: bool = False
    """Whether to stop at an image that cannot be read, instead of leaving it out."""
    overwrite: bool = False
    initial: str = ""
    """Weights that the training starts from; see :func:`featood.pipeline.initial_weights.find_initial_weights`."""
    mean: tuple[float, ...] | None = None
    """Mean of the normalisation: one value, or one per channel, in [0, 1]; by default that of the initial weights, or
    of the dataset."""
    std: tuple[float, ...] | None = None
    """Standard deviation of the normalisation, in the same form."""
    recipe: str = ""
    """Name of the recipe that the plan is of, which is recorded."""


def architecture_of(model: str, name: str, options: Mapping[str, Any]) -> Architecture:
    """Return the network to train; that of a model with a network of its own has the name of the model.

    Raises
    ------
    UsageError
        If a network, or an option of one, is given to such a model.
    """
    if not model_class(model).own_network:
        return Architecture(name, options)
    if name or options:
        raise UsageError(
            f"{model} has a network of its own, with the options of the model; leave out --arch and --arch-option"
        )
    return Architecture(model)


def plan_of_recipe(
    name: str,
    *,
    model: str = "",
    architecture: Architecture = Architecture(""),  # noqa: B008  (immutable)
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    reporter: Reporter = SILENT,
    **plan: Any,
) -> tuple[TrainPlan, TrainOptions]:
    """Return what to train and how, by a recipe; what is given replaces the values of the recipe.

    Parameters
    ----------
    name : str
        See :data:`featood.extractors.trainer.RECIPES`.
    model : str
        Another model; the recipe's options of its model are left out.
    architecture : Architecture
        Another architecture, without the recipe's options of its network; with an empty name, options of the latter.
    options, training : mapping, optional
        Options of the model, and of :class:`TrainOptions`.
    reporter : Reporter
        Takes a line with the values of the recipe that are in force.
    **plan
        Other fields of :class:`TrainPlan`.

    Raises
    ------
    UsageError
        If there is no such recipe, or it needs a trained network and none is given as `initial`.
    """
    recipe = find_recipe(name)
    if recipe.tunes and not plan.get("initial"):
        raise UsageError(f"the recipe {name} continues from a trained network: name it by --initial")
    own, typed, how = dict(architecture.options), dict(options or {}), dict(training or {})
    of_net = recipe.architecture_options if architecture.name in ("", recipe.architecture) else {}
    of_model = recipe.options if model in ("", recipe.model) else {}
    net = Architecture(architecture.name or recipe.architecture, {**of_net, **own})
    left = [f"--arch-option {key}={_text(value)}" for key, value in of_net.items() if key not in own]
    given = [(of_model, typed), (recipe.training, how)]
    left += [
        _flag(key, value) for values, others in given for key, value in values.items() if key not in others
    ]
    chosen = TrainPlan(
        model=model or recipe.model, architecture=net, options={**of_model, **typed}, recipe=name, **plan
    )
    how_made = "" if model_class(chosen.model).own_network else f" --arch {net.name}"
    reporter.line(f"recipe {name}: {chosen.model}{how_made} {' '.join(left)}")
    return chosen, TrainOptions(**{**model_class(chosen.model).training, **recipe.training, **how})


def own_defaults(model: str, options: TrainOptions) -> str:
    """Return the options of a training that are a model's own defaults, as words of the command line."""
    own = model_class(model).training
    return " ".join(_flag(name, value) for name, value in own.items() if getattr(options, name) == value)


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
