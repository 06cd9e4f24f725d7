"""Criteria that rank heads without OOD data, compared with the heads' mean AUROC on real OOD sets.

All heads that do not train a network, variants of their options, and eight heads that do, with few epochs, are fitted
on the features of five networks::

    python benchmarks/selection.py selection.jsonl --cache CACHE

Each head and network adds a line of JSON to the file; those already in it are skipped, so the command resumes where it
stopped, and several may run at once with other ``--networks``. ``--report`` prints the tables without further fits.
Unseen classes were chosen on cifar-resnet20 and the densenet for CIFAR-100; the rule of ``featood recommend`` for
contradictory pseudo-outliers was added after they had failed on mnist-convnet, and that for heads within a standard
error of the best after the first head on cifar-resnet20 had been 2.0 points below the best in hindsight. Fits use at
most 6,000 training rows, of which a fifth is held out, and one thread. ``--compose`` scores the compositions of
``featood fit compose --members auto`` instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import show
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from featood import FeatureCache, FeatureSet, create_head, open_cache
from featood.errors import FeatoodError
from featood.heads.compositions._members import format_member
from featood.losses import class_means, virtual_outliers
from featood.metrics import auroc
from featood.metrics.pseudo_outliers import crossed, mixed, other_rows
from featood.numerics.gaussian import factorize
from featood.pipeline.derived_sets import hold_out
from featood.pipeline.recommendation import candidates, choose_criterion, choose_members, near_best, try_heads
from featood.pipeline.trials import CROSSED, SCALED, UNSEEN, Trial, changed, make_trials

ROWS, TEST_ROWS, HELD_OUT = 6000, 3000, 0.2
LEAST = 20
"""Smallest number of misclassified rows that count as pseudo-outliers."""
REAL = "real "
"""Prefix of the kinds of trials that have real OOD rows."""


class Network(NamedTuple):
    """The sets of a network in the cache."""

    backbone: str
    dataset: str
    odd: tuple[str, ...]
    """OOD sets."""
    divide: bool = False
    """Whether two thirds of the test split take the place of the training split."""


FAR = ("cifar100", "tiny-imagenet-resize", "textures")
NETWORKS: Mapping[str, Network] = {
    "cifar-resnet20": Network("cifar-resnet20@resnet20-12fca82f", "cifar10", FAR),
    "densenet, CIFAR-100": Network(
        "densenet-100-12@densenet100-12_cifar100", "cifar100", ("cifar10", *FAR[1:]), divide=True
    ),
    "densenet, CIFAR-10": Network("densenet-100-12@densenet100-12_cifar10", "cifar10", FAR),
    "cifar-resnet56": Network("cifar-resnet56@resnet56-4bfd9763", "cifar10", FAR),
    "mnist-convnet": Network(
        "mnist-convnet@baseline_epoch_9", "mnist", ("fashion-mnist", "notmnist", "omniglot")
    ),
}
GRID: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "mahalanobis": {
        "space": ("standardize", "l2", "pca"),
        "ridge": (0.01, 0.1, 1.0),
        "shrinkage": ("ledoit-wolf",),
    },
    "relative-mahalanobis": {"space": ("l2", "pca"), "ridge": (0.1,)},
    "ssd": {"space": ("l2", "standardize"), "ridge": (0.1,), "clusters": (10,)},
    "knn": {"k": (1, 5, 10, 200), "space": ("none", "standardize", "l2-standardize", "pca", "l2-whiten")},
    "energy": {"temperature": (0.1, 2.0, 10.0, 100.0)},
    "msp": {"temperature": (2.0, 10.0, 100.0)},
    "gen": {"gamma": (0.01, 0.5)},
    "react": {"percentile": (0.7, 0.8, 0.95, 0.99)},
    "ash-s": {"percentile": (0.5, 0.8, 0.95)},
    "ash-b": {"percentile": (0.5, 0.8, 0.9)},
    "ash-p": {"percentile": (0.5, 0.9)},
    "scale": {"percentile": (0.5, 0.8, 0.95)},
    "dice": {"p": (0.5, 0.7, 0.95)},
    "vim": {"dim": (5, 10, 20, 30, 40)},
    "residual": {"dim": (5, 10, 20, 30, 40)},
    "neco": {"dim": (5, 10, 30), "max_logit": ("false",)},
    "pca-reconstruction": {"dim": (2, 5, 10, 30)},
    "nnguide": {"k": (1, 50, 100)},
    "norm": {"space": ("standardize",)},
    "cosine": {"space": ("standardize",)},
    "nci": {"alpha": (0.001,)},
    "nac": {"alpha": (50.0,)},
    "isolation-forest": {"space": ("l2",)},
    "one-class-svm": {"space": ("l2",)},
    "lof": {"neighbors": (5,), "space": ("l2",)},
    "gmm": {
        "space": ("standardize", "l2", "l2-whiten", "pca"),
        "covariance": ("tied", "diag"),
        "ridge": (0.01, 0.1),
    },
    "natpn": {"epochs": (10,)},
    "radial-flow": {"epochs": (10,)},
    "planar-flow": {"epochs": (10,)},
    "realnvp": {"epochs": (10,)},
    "heat-gmm": {"epochs": (10,)},
    "nce": {"epochs": (10,)},
    "cd": {"epochs": (10,)},
    "epn-v": {"epochs": (10,)},
}
"""Values of options, each tried with the defaults of the others; the slowest heads last."""
AVERAGES: Mapping[str, tuple[str, ...]] = {
    "mixed + scaled": ("mixed", "scaled"),
    "mixed means + scaled": ("mixed means", "scaled"),
    "unseen + scaled": ("unseen", "scaled"),
    "unseen + mixed means": ("unseen", "mixed means"),
    "unseen + misclassified": ("unseen", "misclassified"),
    "unseen + crossed": ("unseen", "crossed"),
}
"""Kinds of trials over which places are averaged, besides each kind alone."""


def sets(cache: FeatureCache, network: Network) -> tuple[FeatureSet, FeatureSet, dict[str, FeatureSet]]:
    """Return training rows, test rows and OOD sets."""

    def read(name: str, rows: slice) -> FeatureSet:
        found = cache[f"{network.backbone}/{name}"].rows(rows).to_torch()
        return dataclasses.replace(found, ids=None)

    test = read(f"{network.dataset}/test", slice(TEST_ROWS))
    if network.divide:
        train, test = hold_out(test, 1 / 3, seed=0)
    else:
        train = read(f"{network.dataset}/train", slice(ROWS))
    return train, test, {name: read(f"{name}/test", slice(TEST_ROWS)) for name in network.odd}


def pseudo_outliers(held: FeatureSet) -> Iterator[tuple[str, FeatureSet]]:
    """Yield the candidates that are not part of the criterion."""
    generator = torch.Generator().manual_seed(1)
    partners = other_rows(held.labels, generator)
    weights = 0.3 + 0.4 * torch.rand(len(held), generator=generator)
    factors = weights[:, None]
    yield "mixed", changed(held, lambda rows: mixed(rows, partners, weights))
    yield "crossed, not scaled", changed(held, lambda rows: crossed(rows, partners, generator))
    yield "scaled", changed(held, lambda rows: rows * factors)
    yield "shrunk", changed(held, lambda rows: torch.lerp(rows.mean(0), rows, factors))
    yield (
        "permuted",
        changed(held, lambda rows: rows.gather(0, torch.rand(rows.shape, generator=generator).argsort(0))),
    )

    def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
        means, _ = class_means(rows, held.labels, int(held.labels.max()) + 1)
        return means, rows - means[held.labels]

    def mixed_means(rows: Tensor) -> Tensor:
        means, apart = moments(rows)
        return (
            mixed(means[held.labels], partners, weights)
            + apart[torch.randperm(len(rows), generator=generator)]
        )

    def unlikely(rows: Tensor) -> Tensor:
        means, apart = moments(rows.double())
        factor, _ = factorize(apart.T @ apart / len(rows))
        drawn = virtual_outliers(means, factor, len(rows), 20 * len(rows), generator)
        return drawn.clamp(rows.amin(0), rows.amax(0)).float()

    yield "mixed means", changed(held, mixed_means)
    yield "virtual outliers", changed(held, unlikely)


def trials_of(train: FeatureSet, test: FeatureSet, odd: Mapping[str, FeatureSet]) -> list[Trial]:
    """Return the trials of all candidates and of the real OOD sets; those with all classes come first."""
    kept, held = (part.to_torch() for part in hold_out(train, HELD_OUT, seed=0))
    own = make_trials(kept, held)
    whole, known = own[0].train, own[0].known
    wrong = known.logits.argmax(1) != known.labels
    return [
        *(Trial(REAL + name, whole, test, rows) for name, rows in odd.items()),
        Trial("typicality", whole, whole.rows(slice(len(held))), held),
        *(Trial(kind, whole, known, rows) for kind, rows in pseudo_outliers(known)),
        *(
            [Trial("misclassified", whole, known.rows(~wrong), known.rows(wrong))]
            if wrong.sum() >= LEAST
            else []
        ),
        *(trial for trial in own if trial.kind != SCALED),  # those above have the same law
    ]


def jobs() -> list[str]:
    """List the variants of heads, as for ``featood recommend --heads``."""
    return [
        f"{name} {key}={value}"
        for name, grid in GRID.items()
        for key, values in grid.items()
        for value in values
    ]


def run(
    name: str, train: FeatureSet, trials: Sequence[Trial], done: set[tuple[str, str]], file: Path
) -> None:
    """Try the heads that are not in the file."""
    heads = candidates(train)[0]
    for text in jobs():
        heads |= candidates(train, [text])[0]
    for label, head in heads.items():
        if (name, label) in done:
            continue
        line: dict[str, Any] = {"network": name, "head": label}
        try:
            (row,), *_ = try_heads({label: head}, trials)
            line |= {
                "auroc": {kind: float(np.mean(values)) for kind, values in row.auroc.items()},
                "unseen": row.auroc[UNSEEN],
                "fit_s": round(row.fit_s, 3),
                "score_ms": round(row.score_ms, 4),
            }
        except FeatoodError as error:
            line["error"] = str(error)
        write(file, line)


def compose(name: str, train: FeatureSet, trials: Sequence[Trial], file: Path) -> None:
    """Compose the members that are chosen from the default heads, and score the composition on the real OOD sets."""
    own = make_trials(*hold_out(train, HELD_OUT, seed=0))
    members = [format_member(row.head) for row in choose_members(try_heads(candidates(train)[0], own)[0])]
    head = create_head("compose", members=members).fit(own[0].train)
    real = {
        trial.kind: auroc(head.score(trial.known), head.score(trial.outliers))
        for trial in trials
        if trial.kind.startswith(REAL)
    }
    write(file, {"network": name, "head": "compose auto", "members": members, "auroc": real})


def write(file: Path, line: Mapping[str, Any]) -> None:
    """Append a line."""
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file."""
    return list(map(json.loads, path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


def tables(lines: Sequence[Mapping[str, Any]]) -> None:
    """Print correlation and shortfall of each criterion on each network."""
    correlations, shortfalls = [], []
    known = {
        name: [line for line in lines if line["network"] == name and "fit_s" in line] for name in NETWORKS
    }
    known = {name: found for name, found in known.items() if found}
    values = {name: criteria(found) for name, found in known.items()}
    for criterion in dict.fromkeys(key for found in values.values() for key in found):
        first, second = {"criterion": criterion}, {"criterion": criterion}
        for name, found in known.items():
            truth, guess = np.array([real(line) for line in found]), values[name].get(criterion)
            first[name] = second[name] = "-"
            if guess is not None:
                first[name] = f"{spearmanr(guess, truth).statistic:.2f}"
                second[name] = (
                    f"{truth.max() - truth[np.argmax(guess)]:.1f} {found[int(np.argmax(guess))]['head']}"
                )
        correlations.append(first)
        shortfalls.append(second)
    show("Spearman correlation with the mean AUROC on real OOD sets", correlations)
    show("points of AUROC by which the pick is below the best head in hindsight, and the pick", shortfalls)
    rows = []
    for name, found in known.items():
        best = max(found, key=real)
        row = {"network": name, "heads": len(found), "best": f"{real(best):.1f} {best['head']}"}
        row["unseen, scaled"] = f"{spearmanr(values[name]['unseen'], values[name]['scaled']).statistic:.2f}"
        pick = found[int(np.argmax(values[name]["featood recommend"]))]
        row["featood recommend"] = f"{real(pick):.1f} {pick['head']}"
        row["energy"] = f"{next(real(line) for line in found if line['head'] == 'energy'):.1f}"
        for line in lines:
            if line["network"] == name and line["head"].startswith("compose"):
                row[line["head"]] = f"{real(line):.1f} {', '.join(one.split()[0] for one in line['members'])}"
        rows.append(row)
    show("mean AUROC in %, and the rank correlation of two kinds of pseudo-outliers", rows)


def criteria(found: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the value of each criterion for each head, higher = better."""
    kinds = [kind for kind in found[0]["auroc"] if not kind.startswith(REAL)]
    values = {kind: np.array([line["auroc"][kind] for line in found]) for kind in kinds}
    if "typicality" in values:
        values["typicality"] = -np.abs(values["typicality"] - 0.5)
    for name, parts in AVERAGES.items():
        there = [part for part in parts if part in values]
        values[name] = places(values, there)
    criterion = choose_criterion(values)
    values["featood recommend"] = places(values, criterion)
    if criterion == (UNSEEN,):
        near = near_best([line["unseen"] for line in found])
        values["featood recommend"] += np.where(near, len(found) + rankdata(values[CROSSED]), 0)
    return values


def places(values: Mapping[str, np.ndarray], kinds: Sequence[str]) -> np.ndarray:
    """Return the mean rank of each head over several kinds of trials."""
    return np.mean([rankdata(values[kind]) for kind in kinds], 0)


def real(line: Mapping[str, Any]) -> float:
    """Return the mean AUROC over the real OOD sets in %."""
    return 100 * float(np.mean([value for kind, value in line["auroc"].items() if kind.startswith(REAL)]))


def main() -> None:
    """Run the trials that are not in the file, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="file of JSON lines to continue")
    parser.add_argument(
        "--cache", default="feature_cache", help="root of a feature cache with the sets in NETWORKS"
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument(
        "--compose", action="store_true", help="choose and score compositions, instead of heads"
    )
    parser.add_argument("--report", action="store_true", help="print the tables without further fits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in () if given.report else given.networks:
        done = {(line["network"], line["head"]) for line in read(given.file)}
        train, test, odd = sets(open_cache(given.cache), NETWORKS[name])
        trials = trials_of(train, test, odd)
        if not given.compose:
            run(name, train, trials, done, given.file)
        elif (name, "compose auto") not in done:
            compose(name, train, trials, given.file)
    tables(read(given.file))


if __name__ == "__main__":
    main()
