"""One round: train on the labelled images, test, and rank the pool."""

from __future__ import annotations

__all__ = ["Round", "clear", "outputs", "play_round", "read_round", "repeated", "write_round"]

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from featood.cache import FeatureSet
from featood.data import ImageSet
from featood.errors import Mismatch
from featood.extractors.live import extract
from featood.extractors.models import create_model
from featood.extractors.trainer import TrainImages, TrainOptions, train_network
from featood.extractors.transform import Transform
from featood.numerics.mixtures import mean_log_probabilities
from featood.pipeline.active_learning.acquisition import Acquisition, highest
from featood.pipeline.active_learning.plan import ActivePlan, seed_of
from featood.pipeline.active_learning.pool import Pool
from featood.records import check_record, is_newer, whole
from featood.reporter import SILENT, Reporter
from featood.sealed import read_json, write_json
from featood.training.checkpoint import clear_checkpoint

SCHEMA = 1
SCORED = 256
"""Images that pass through a network together when it is not trained."""
NUMBER = (int, float)
KINDS = {
    "schema": whole(1),
    "labelled": [whole()],
    "accuracy": NUMBER,
    "validation": [NUMBER],
    "seeds": [whole()],
    "acquired": [whole()],
    "scores": [NUMBER],
    "notes": {str: NUMBER},
}
TRAIN, DRAW = 3, 4
"""What is drawn in a round, besides what is drawn once."""


class Round(NamedTuple):
    """What a round found."""

    labelled: list[int]
    """Rows of the pool that were labelled."""
    accuracy: float
    """Share of the test images that were classified correctly."""
    validation: list[float]
    """The same on the held-out images, for each network."""
    seeds: list[int]
    """Seeds of the networks."""
    acquired: list[int]
    """Rows of the pool to label next, the best first."""
    scores: list[float]
    """Their scores."""
    notes: Mapping[str, float]


def play_round(
    plan: ActivePlan, options: TrainOptions, acquisition: Acquisition, pool: Pool, place: tuple[int, int],
    labelled: list[int], folder: Path, *, reporter: Reporter = SILENT,
) -> Round:  # fmt: skip
    """Train fresh networks, test them, and choose the images to label next.

    Parameters
    ----------
    plan, options, acquisition, pool
        The experiment.
    place : (int, int)
        Numbers of the run and of the round, which determine all random draws.
    labelled : list of int
        Rows of the pool that have labels.
    folder : Path
        Folder of checkpoints, to be removed by `clear` once the round is recorded.
    reporter : Reporter
        Shows the progress.
    """
    left = np.setdiff1d(np.arange(len(pool.images)), labelled)
    known, rest = pool.images.subset(labelled), pool.images.subset(left)
    seeds = [seed_of(options.seed, TRAIN, *place, member) for member in range(acquisition.networks)]
    validation: list[float] = []
    diverged = 0
    sets: list[list[FeatureSet]] = []
    for seed in seeds:
        drawn = known.subset(repeated(len(known), plan.epoch_images, np.random.default_rng(seed)))
        trained = train_network(
            plan.architecture.make,
            create_model("cross-entropy"),
            TrainImages(drawn, pool.transform, held_out=pool.held_out if len(pool.held_out) else None),
            dataclasses.replace(options, seed=seed, validation=0.0),
            checkpoint=_checkpoint(folder, seed),
            settings={"labelled": labelled},
            progress=reporter.task(f"training {plan.architecture.name}"),
        )
        validation += [trained.summary[key] for key in ("validation_accuracy",) if key in trained.summary]
        diverged += trained.summary["diverged"]
        net = trained.net.whole()
        sets.append(
            [outputs(net, images, pool.transform, options.device) for images in (known, rest, pool.test)]
        )
    of_known, of_rest, of_test = zip(*sets, strict=True)
    guesses = mean_log_probabilities([torch.as_tensor(rows.logits) for rows in of_test]).argmax(1)
    right = guesses == torch.as_tensor(pool.test.labels)
    generator = torch.Generator().manual_seed(seed_of(options.seed, DRAW, *place))
    ranking = acquisition.rank(of_known, of_rest, generator)
    best = highest(ranking.scores, plan.acquire)
    return Round(
        labelled, float(right.double().mean()), validation, seeds, left[best.numpy()].tolist(),
        ranking.scores[best].tolist(), {**ranking.notes, **({"diverged": diverged} if diverged else {})},
    )  # fmt: skip


def repeated(rows: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return numbers of rows in random order, each equally often (up to one), `count` in all but at least each once."""
    return np.resize(rng.permutation(rows), max(rows, count))


def outputs(net: nn.Module, images: ImageSet, transform: Transform, device: str = "auto") -> FeatureSet:
    """Return features, logits and labels of images."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(images), SCORED):
            rows = range(start, min(start + SCORED, len(images)))
            yield transform([images.read(row) for row in rows]), torch.as_tensor(images.labels)[list(rows)]

    return extract(net, batches(), quiet=True, device=device)


def write_round(path: Path, found: Round) -> None:
    """Write the record of a round; it is there only when complete."""
    write_json(path, {"schema": SCHEMA, **found._asdict()})


def read_round(path: Path) -> Round:
    """Read the record of a round.

    Raises
    ------
    CacheCorrupt
        If it is damaged.
    Mismatch
        If it was written by a newer version.
    """
    body = read_json(path, f"delete {path.parent} to repeat its rounds")
    if is_newer(body.get("schema"), SCHEMA):
        raise Mismatch(f"{path} was written by a newer version of featood; upgrade featood to read it")
    check_record(body, KINDS, path, f"delete {path.parent} to repeat its rounds")
    return Round(**{name: body[name] for name in Round._fields})


def clear(folder: Path, seeds: Sequence[int]) -> None:
    """Remove the checkpoints of the networks of a recorded round."""
    for seed in seeds:
        clear_checkpoint(_checkpoint(folder, seed))


def _checkpoint(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.training"
