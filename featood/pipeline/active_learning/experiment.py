"""The loop of active learning, which continues where it was interrupted."""

from __future__ import annotations

__all__ = ["active_learning", "run_experiment"]

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from featood.errors import Mismatch, UsageError
from featood.extractors.inputs import image_transform
from featood.extractors.trainer import Architecture, TrainOptions, is_extractor, leads, load_extractor
from featood.files import make_folder, size_of
from featood.numerics.mixtures import predictive_entropy
from featood.options import create
from featood.pipeline.active_learning.acquisition import (
    Acquisition,
    acquisition_class,
    acquisition_label,
)
from featood.pipeline.active_learning.curves import write_curves
from featood.pipeline.active_learning.plan import TRAINING, ActivePlan
from featood.pipeline.active_learning.pool import Pool, open_pool
from featood.pipeline.active_learning.rounds import Round, clear, outputs, play_round, read_round, write_round
from featood.reporter import SILENT, Reporter
from featood.sealed import read_json, write_json

RECORD, ROUNDS = "experiment.json", "rounds"
JUDGED = 1.0
"""Published threshold of the entropy of a judge."""


def run_experiment(
    acquisition: Acquisition,
    plan: ActivePlan,
    options: TrainOptions = TRAINING,
    *,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Run an acquisition, write its files, and return the summary of all acquisitions in the folder.

    Every finished round has a record, from which the same call continues after an interruption; its result is that of
    an uninterrupted one. The record of a round does not depend on `until` and `runs`, so these can be raised.

    Parameters
    ----------
    acquisition : Acquisition
        See :func:`featood.pipeline.active_learning.list_acquisitions`.
    plan : ActivePlan
        Images, network, and numbers of labels.
    options : TrainOptions
        How each network is trained; its seed is that of the experiment.
    reporter : Reporter
        Takes a line about each choice and each round, and the progress.

    Raises
    ------
    DataError
        If images or labels are missing.
    UsageError
        If numbers or names are invalid.
    Mismatch
        If the folder contains an experiment with other settings.
    CacheCorrupt
        If a record is damaged.
    """
    if plan.judge and not is_extractor(plan.judge):
        raise UsageError(f"{plan.judge} contains no network trained by featood train")
    if not leads():
        raise UsageError("active-learning runs in one process; start it without torchrun")
    pool = open_pool(plan, options.validation, options.seed, reporter=reporter)
    if plan.initial < acquisition.least * len(pool.images.classes):
        raise UsageError(
            f"{acquisition.name} needs at least {acquisition.least} initial labels of each class"
        )
    _check_settings(plan, options, pool)
    label = acquisition_label(acquisition)
    folder = plan.out / ROUNDS / label
    make_folder(folder)
    for run in range(plan.runs):
        for number, found in enumerate(_rounds(plan, options, acquisition, pool, run, folder, reporter)):
            notes = "".join(f", {name} {value:.3g}" for name, value in found.notes.items())
            reporter.line(
                f"{label}, run {run + 1} of {plan.runs}, round {number + 1}: {len(found.labelled)} labels, "
                f"test accuracy {100 * found.accuracy:.2f} %{notes}"
            )
    return _summary(plan, options, pool)


def _rounds(
    plan: ActivePlan, options: TrainOptions, acquisition: Acquisition, pool: Pool, run: int, folder: Path,
    reporter: Reporter,
) -> Iterator[Round]:  # fmt: skip
    labelled, number = pool.initial.tolist(), 0
    while True:
        path = folder / _file(run, number)
        if size_of(path) is None:
            found = play_round(
                plan, options, acquisition, pool, (run, number), labelled, folder, reporter=reporter
            )
            write_round(path, found)
        else:
            found = read_round(path)
            if found.labelled != labelled:
                raise Mismatch(
                    f"{path} does not follow from the rounds before it; delete {folder} to repeat them"
                )
        clear(folder, found.seeds)  # also if it was interrupted right after the record
        yield found
        if len(labelled) >= plan.until or not found.acquired:
            return
        labelled, number = labelled + found.acquired, number + 1


def _file(run: int, number: int) -> str:
    return f"run-{run}-round-{number}.json"


def _check_settings(plan: ActivePlan, options: TrainOptions, pool: Pool) -> None:
    """Record the settings of the experiment, or compare them with those recorded."""
    ours = plan.settings(options) | {
        "transform": pool.transform.as_json(),
        "pool": pool.name,
        "pool_digest": pool.images.digest(),
        "held_out_digest": pool.held_out.digest(),
        "test_digest": pool.test.digest(),
    }
    path = plan.out / RECORD
    if size_of(path) is None:
        make_folder(plan.out)
        write_json(path, ours)
    theirs, ours = read_json(path, f"choose another folder than {plan.out}"), json.loads(json.dumps(ours))
    if differing := [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]:
        raise Mismatch(
            f"{plan.out} contains an experiment with other settings ({', '.join(differing)}); use the same settings to "
            "continue it or to compare acquisitions, or choose another folder"
        )


def _summary(plan: ActivePlan, options: TrainOptions, pool: Pool) -> dict[str, Any]:
    """Collect the rounds of all acquisitions in the folder, and write the files."""
    folders = sorted((plan.out / ROUNDS).iterdir())
    found = {folder.name: runs for folder in folders if (runs := _recorded(folder))}
    facts = {
        "architecture": plan.architecture.name,
        "pool": pool.name,
        "ambiguous": pool.ambiguous,
        "seed": options.seed,
        "pool_images": len(pool.images),
        "held_out_images": len(pool.held_out),
        "test_images": len(pool.test),
    }
    if not plan.ambiguous and not plan.judge:
        return write_curves(plan.out, found, facts)
    labelled = sorted(
        {row for runs in found.values() for rounds in runs for one in rounds for row in one.labelled}
    )
    if plan.judge:
        values = _judged(plan.judge, pool, labelled, options.device)
    else:
        assert pool.entropies is not None
        values = pool.entropies[labelled].tolist()
    threshold = plan.threshold if plan.threshold is not None else JUDGED if plan.judge else 0.0
    facts |= {"judge": plan.judge or "labels", "threshold": threshold}
    return write_curves(plan.out, found, facts, dict(zip(labelled, values, strict=True)), threshold)


def _recorded(folder: Path) -> list[list[Round]]:
    """Read the rounds of all runs of an acquisition."""
    runs: list[list[Round]] = []
    while size_of(folder / _file(len(runs), 0)) is not None:
        rounds: list[Round] = []
        while size_of(path := folder / _file(len(runs), len(rounds))) is not None:
            rounds.append(read_round(path))
        runs.append(rounds)
    return runs


def _judged(judge: str, pool: Pool, rows: list[int], device: str) -> list[float]:
    """Return the entropies of a trained network's softmax for some images of the pool."""
    net, facts, _ = load_extractor(judge)
    whole = net.whole(facts.model.shown, facts.model.logits_part)
    judged = outputs(whole, pool.images.subset(rows), image_transform(facts.transform, judge), device)
    return predictive_entropy([torch.as_tensor(judged.logits)]).tolist()


def active_learning(
    acquisition: str,
    *,
    dataset: str,
    arch: str,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    arch_options: Mapping[str, Any] | None = None,
    reporter: Reporter = SILENT,
    **further: Any,
) -> dict[str, Any]:
    """Compare ways to choose the images that are labelled next; see :func:`run_experiment`.

    Parameters
    ----------
    acquisition : str
        ``random``, ``softmax``, ``ensemble`` or ``gmm``.
    dataset : str
        Labelled images; see :func:`featood.data.open_dataset`.
    arch : str
        Network: one of ours such as ``cifar-resnet18``, ``tv:NAME`` or ``timm:NAME``.
    out : path
        Folder to write; call the function again with another acquisition and the same folder to compare them.
    options, arch_options : mapping, optional
        Options of the acquisition and of the network.
    reporter : Reporter
        Takes a line about each choice and each round, and the progress.
    **further
        Fields of :class:`ActivePlan` (``until``, ``runs``, ...) and of
        :class:`~featood.extractors.trainer.TrainOptions` (``epochs``, ``lr``, ...).

    Returns
    -------
    dict
        The summary: under ``acquisitions``, the mean accuracy of each and its standard error by the number of labels.
    """
    how = {field.name for field in dataclasses.fields(TrainOptions)}
    known = {field.name for field in dataclasses.fields(ActivePlan)}
    if unknown := sorted(further.keys() - how - known):
        raise UsageError(
            f"active-learning has no option '{unknown[0]}' (it has: {', '.join(sorted(how | known))})"
        )
    plan = ActivePlan(
        dataset=dataset, architecture=Architecture(arch, arch_options or {}), out=Path(out),
        **{name: value for name, value in further.items() if name in known},
    )  # fmt: skip
    training = {name: value for name, value in further.items() if name in how}
    return run_experiment(
        create(acquisition_class(acquisition), acquisition, options or {}), plan,
        dataclasses.replace(TRAINING, **training), reporter=reporter,
    )  # fmt: skip
