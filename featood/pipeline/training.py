"""Training a network on images by name."""

from __future__ import annotations

__all__ = ["input_transform", "train", "train_extractor"]

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featood.data import InputSet, TextSet, get_entry, open_dataset
from featood.errors import UsageError
from featood.extractors.inputs import InputTransform
from featood.extractors.models import create_model, model_class
from featood.extractors.readable import split_readable
from featood.extractors.recipe import changed_colours, fit_channels
from featood.extractors.tokens import TokenTransform
from featood.extractors.trainer import (
    Architecture,
    Facts,
    TrainImages,
    TrainOptions,
    is_extractor,
    leads,
    save_extractor,
    train_network,
)
from featood.extractors.transform import IMAGENET, Transform
from featood.extractors.words import WordTokenizer
from featood.pipeline.extraction import SHOWN
from featood.pipeline.initial_weights import find_initial_weights
from featood.pipeline.train_plan import TrainPlan, architecture_of, own_defaults
from featood.reporter import SILENT, Reporter
from featood.training.checkpoint import clear_checkpoint


def train_extractor(
    plan: TrainPlan,
    options: TrainOptions = TrainOptions(),  # noqa: B008  (frozen)
    *,
    reporter: Reporter = SILENT,
) -> Mapping[str, Any]:
    """Train a network, and write the folder that ``extract --backbone`` takes.

    Of several processes that train together, one reports and writes.

    Parameters
    ----------
    plan : TrainPlan
        What to train, and on what.
    options : TrainOptions
        How.
    reporter : Reporter
        Takes a line about each choice, and the progress.

    Returns
    -------
    mapping
        Summary of the training: ``steps``, ``loss``, ``validation_accuracy``, ...

    Raises
    ------
    DataError
        If images or labels are missing.
    UsageError
        If a name or an option is unknown, or the folder exists.
    """
    if not leads():
        reporter = SILENT
    checkpoint = plan.out.with_name(plan.out.name + ".training")
    if is_extractor(plan.out) and not plan.overwrite:
        raise UsageError(f"{plan.out} contains a trained network; choose another folder, or add --overwrite")
    model = create_model(plan.model, plan.options)
    initial = None
    if plan.initial:
        initial = find_initial_weights(plan.initial, plan.architecture, reporter)
        reporter.line(f"initial weights: {plan.initial}")
    if defaults := own_defaults(plan.model, options):
        reporter.line(f"defaults of {plan.model}: {defaults}")
    sets, data = _sets(plan, options, initial and initial.transform, reporter)
    if plan.recipe:
        data["recipe"] = plan.recipe
    if initial is not None:
        data |= {"initial": plan.initial, "initial_digest": initial.digest}
    settings = {
        "model": plan.model,
        "model_options": dataclasses.asdict(model),
        "architecture": plan.architecture.name,
        "architecture_options": dict(plan.architecture.options),
        "transform": sets.transform.as_json(),
        "data": data,
    }
    trained = train_network(
        plan.architecture.make,
        model,
        sets,
        options,
        checkpoint=checkpoint,
        settings=settings,
        progress=reporter.task(f"training {plan.architecture.name}"),
        initial=None if initial is None else functools.partial(initial.load, reporter=reporter),
        show=reporter.picture,
    )
    if trained.summary["diverged"]:
        reporter.line(
            f"{plan.model} diverged: the state after update {trained.summary['steps']} is kept; continue from it by "
            f"--initial {plan.out} with another --out and {model.advice}"
        )
    classes = sets.images.classes or tuple(map(str, range(trained.summary["classes"])))
    facts = Facts(plan.architecture, model, classes, sets.transform, dataclasses.asdict(options), data)
    if leads():
        save_extractor(trained, facts, plan.out)
        clear_checkpoint(checkpoint)
    return trained.summary


def _open(name: str, split: str, plan: TrainPlan) -> InputSet:
    images = open_dataset(name, split, plan.data_dir)
    if images.kind != plan.architecture.takes:
        raise UsageError(
            f"{name} is a set of {images.kind}, and {plan.architecture.name} takes {plan.architecture.takes}"
        )
    return images.subset(range(min(plan.limit, len(images)))) if plan.limit else images


def _sets(
    plan: TrainPlan, options: TrainOptions, known: InputTransform | None, reporter: Reporter
) -> tuple[TrainImages, dict[str, Any]]:
    """Open all sets, and leave out what cannot be read; return them, and what is recorded of them."""
    images = _open(plan.dataset, plan.split, plan)
    transform = (
        _text_transform(plan, images)
        if isinstance(images, TextSet)
        else _image_transform(plan, images, known)
    )
    where = "" if known is None else " (as of the initial weights)"
    reporter.line(f"{plan.dataset}/{plan.split}: {len(images)} {images.kind}; inputs{where}: {transform}")

    def readable(images: InputSet, before: str) -> InputSet:
        name = f"{images.name}/{images.split}"
        for note in images.notes:
            reporter.line(f"{name}: {note}")
        for how, count in transform.counts(images).items():
            reporter.line(f"{name}: {count} of {len(images)} rows are {how}")
            data[f"{before}lossy"] = {how: count}
        task = reporter.task(f"checking {name}")
        found, problems = split_readable(
            images, transform, strict=plan.strict, workers=options.workers, progress=task
        )
        data[f"{before}digest"] = found.digest()
        if problems:
            data[f"{before}unreadable"] = list(problems)
            reporter.line(
                f"warning: {len(problems)} of {len(images)} {images.kind} could not be read and are left out:"
            )
            for problem in list(problems.values())[:SHOWN]:
                reporter.line(f"  {problem}")
        return found

    def further(kind: str, name: str) -> InputSet | None:
        if not name:
            return None
        dataset, _, split = name.partition("/")
        found = _open(dataset, split or "train", plan)
        reporter.line(f"{kind.replace('_', ' ')}: {name}, {len(found)} {found.kind}")
        data[kind] = name
        return readable(found, f"{kind}_")

    data: dict[str, Any] = {"dataset": plan.dataset, "split": plan.split}
    images = readable(images, "")
    data["images"] = len(images)
    data |= {name: value for name in ("limit", "image_size") if (value := getattr(plan, name))}
    data |= {name: list(value) for name in ("mean", "std") if (value := getattr(plan, name))}
    outliers, mixing = further("outliers", plan.outliers), further("mixing_set", plan.mixing_set)
    return TrainImages(images, transform, outliers, mixing=mixing), data


def _text_transform(plan: TrainPlan, texts: TextSet) -> InputTransform:
    """Return the transform of texts: the most frequent words of those to train on."""
    if plan.initial:
        raise UsageError("--initial has no effect on texts, whose words are those of the training; omit it")
    of_images = {"image_size": plan.image_size, "mean": plan.mean, "std": plan.std}
    if given := [name for name, value in of_images.items() if value]:
        raise UsageError(f"--{given[0].replace('_', '-')} has no effect on texts; omit it")
    return TokenTransform(WordTokenizer.of(texts.texts, plan.vocabulary), plan.max_length)


def _image_transform(plan: TrainPlan, images: InputSet, known: InputTransform | None) -> InputTransform:
    """Return the transform of images, with the colours of the model and of the plan."""
    assert known is None or isinstance(known, Transform)
    transform = input_transform(plan.architecture, images, plan.image_size, known)
    if known is None and (colours := model_class(plan.model).colours) is not None:
        transform = changed_colours(transform, (colours[0],), (colours[1],))
    return changed_colours(transform, plan.mean, plan.std)


def input_transform(
    architecture: Architecture, images: InputSet, image_size: int = 0, known: Transform | None = None
) -> Transform:
    """Return the transform: colours and size of the dataset if it is known, else of the architecture.

    Parameters
    ----------
    architecture : Architecture
        The network.
    images : InputSet
        Images that it is trained on.
    image_size : int
        Side of the input in pixels, in place of the usual one.
    known : Transform, optional
        The transform of weights to start from, which is then the usual one.
    """
    if known is not None:
        return known.at_size(image_size) if image_size else known
    channels, size = architecture.input_shape
    try:
        entry = get_entry(images.name.partition(":")[0])
        mean, std, shape = entry.mean, entry.std, entry.shape
    except UsageError:
        mean, std, shape = None, None, None
    if shape is not None:
        channels, size = (1 if len(shape) < 3 or shape[2] == 1 else 3), shape[0]
    size = image_size or size
    resize = 0 if size < IMAGENET.height else round(size * IMAGENET.resize / IMAGENET.height)  # type: ignore[operator]
    mean, std = (fit_channels(values, channels) for values in (mean or IMAGENET.mean, std or IMAGENET.std))
    return Transform(channels, size, size, resize, mean, std)


def train(
    model: str,
    *,
    dataset: str,
    out: str | Path,
    arch: str = "",
    options: Mapping[str, Any] | None = None,
    arch_options: Mapping[str, Any] | None = None,
    reporter: Reporter = SILENT,
    **further: Any,
) -> Mapping[str, Any]:
    """Train a network on images by name.

    Parameters
    ----------
    model : str
        What is minimised, as listed by :func:`featood.extractors.models.list_models`.
    dataset : str
        Labelled images; see :func:`featood.data.open_dataset`.
    out : path
        Folder to write, which ``extract --backbone`` and :func:`featood.extractors.trainer.load_extractor` take.
    arch : str
        Network: one of ours such as ``cifar-resnet18``, ``tv:NAME`` or ``timm:NAME``; models with a network of their
        own take none.
    options, arch_options : mapping, optional
        Options of the model and of the network.
    reporter : Reporter
        Takes a line about each choice, and the progress.
    **further
        Fields of :class:`TrainPlan` (``outliers``, ``limit``, ...) and of
        :class:`~featood.extractors.trainer.TrainOptions` (``epochs``, ``lr``, ``augment``, ...).

    Returns
    -------
    mapping
        Summary of the training.

    Raises
    ------
    DataError
        If images or labels are missing.
    UsageError
        If a name or an option is unknown, or the folder exists.
    """
    how = {field.name for field in dataclasses.fields(TrainOptions)}
    plan = {name: value for name, value in further.items() if name not in how}
    known = {field.name for field in dataclasses.fields(TrainPlan)}
    if unknown := sorted(plan.keys() - known):
        raise UsageError(f"train has no option '{unknown[0]}' (it has: {', '.join(sorted(how | known))})")
    return train_extractor(
        TrainPlan(
            model=model, dataset=dataset, architecture=architecture_of(model, arch, arch_options or {}), out=Path(out),
            options=options or {}, **plan,
        ),
        TrainOptions(**{
            **model_class(model).training, **{name: value for name, value in further.items() if name in how},
        }),
        reporter=reporter,
    )  # fmt: skip
