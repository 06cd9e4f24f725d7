"""Detection in sequences of 250 bases by energies of tokens, beside statistics of k-mers.

Run as ``python benchmarks/sequences.py --json sequences.json``. Classes are generated, and in all of them the four
bases are equally frequent:

- chains: each class is a Markov chain, whose steps (differences of neighbouring bases) depend on the two steps before;
- motifs: all classes have the same such chain as background, and each has three motifs of 16 bases of its own, of which
  each sequence contains four at random positions, with one base in twenty replaced.

Heads are trained on some classes, and scored on the others and on test rows with tokens replaced at random. The
baselines are the log-likelihood of one Markov chain of the bases, and the Mahalanobis distance of counts of 4-mers.
Nothing is selected on the scored sets.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from common import save, show

from featood import FeatureSet
from featood.data.tables.sets import token_noise
from featood.heads import create_head
from featood.metrics import auroc
from featood.speed.environment import environment

LENGTH, BASES, STEPS = 250, 4, 2
"""Bases of a sequence, values of a base, and steps that the next one depends on."""
MOTIFS, LONG, PLANTED, REPLACED = 3, 16, 4, 0.05
ORDER, WORD = 3, 4
"""Order of the baseline's Markov chain, and length of the words of the other."""
SMALL: Mapping[str, Any] = {
    "batch_size": 64,
    "lr": 1e-3,
    "steps": 10,
    "buffer_size": 1000,
    "activation": "relu",
}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "discrete-cd (mlp)": {"network": "mlp", "width": 128, "depth": 2},
    "discrete-cd (conv)": {"network": "conv", "filters": 32, "kernel": 6, "width": 128, "depth": 1},
}


def chains(classes: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw sequences ``[classes rows, LENGTH]`` of Markov chains, and their classes."""
    fixed, rng = np.random.default_rng(1), np.random.default_rng(seed)
    steps = fixed.dirichlet(np.full(BASES, 2.0), (classes, *[BASES] * STEPS))
    return walks(steps, rows, rng), np.repeat(np.arange(classes), rows)


def walks(steps: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `rows` sequences for each of ``steps [classes, BASES, BASES, BASES]``, with a uniform first base."""
    label = np.repeat(np.arange(len(steps)), rows)
    moves = rng.integers(BASES, size=(len(label), LENGTH))
    limits = steps.cumsum(-1)
    for place in range(STEPS, LENGTH):
        drawn = limits[label, *(moves[:, place - back] for back in range(STEPS, 0, -1))]
        moves[:, place] = (rng.random((len(label), 1)) > drawn[:, :-1]).sum(1)
    return moves.cumsum(1) % BASES


def motifs(classes: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw sequences of one Markov chain with motifs of their class, and their classes."""
    fixed, rng = np.random.default_rng(2), np.random.default_rng(seed)
    words = fixed.permuted(np.tile(np.arange(BASES), (classes, MOTIFS, LONG // BASES)), axis=2)
    steps = fixed.dirichlet(np.full(BASES, 2.0), (1, *[BASES] * STEPS))
    label = np.repeat(np.arange(classes), rows)
    sequences = walks(steps, len(label), rng)
    room = LENGTH // PLANTED
    for part in range(PLANTED):
        chosen = words[label, rng.integers(MOTIFS, size=len(label))]
        chosen = token_noise(chosen, BASES, rate=REPLACED, seed=int(rng.integers(2**31)))
        place = part * room + rng.integers(room - LONG, size=len(label))
        np.put_along_axis(sequences, place[:, None] + np.arange(LONG), chosen, 1)
    return sequences, label


DATA = {"chains": chains, "motifs": motifs}


def words_of(sequences: np.ndarray, size: int) -> np.ndarray:
    """Return the number of the word that begins at each position ``[N, LENGTH - size + 1]``."""
    windows = np.lib.stride_tricks.sliding_window_view(sequences.astype(np.int64), size, axis=1)
    return windows @ BASES ** np.arange(size)[::-1]


def counts(sequences: np.ndarray, size: int) -> np.ndarray:
    """Return the number of each word ``[N, BASES ** size]``."""
    found = words_of(sequences, size) + BASES**size * np.arange(len(sequences))[:, None]
    return np.bincount(found.ravel(), minlength=len(sequences) * BASES**size).reshape(len(sequences), -1)


def markov_chain(train: np.ndarray, _: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a Markov chain of the bases, and return its negative log-likelihood of sequences."""
    table = 1.0 + counts(train, ORDER + 1).sum(0).reshape(-1, BASES)
    surprise = -np.log(table / table.sum(1, keepdims=True)).ravel()
    return lambda sequences: surprise[words_of(sequences, ORDER + 1)].sum(1)


def mahalanobis(train: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the Mahalanobis distance of the counts of words, without the last, as their sum is fixed."""
    head = create_head("mahalanobis").fit(counts(train, WORD)[:, :-1].astype("f4"), labels)
    return lambda sequences: head.score(counts(sequences, WORD)[:, :-1].astype("f4"))


def energy(name: str, epochs: int, seed: int) -> Callable[..., Callable[[np.ndarray], np.ndarray]]:
    """Return a function that fits the energy of a network, and returns its scores of sequences."""

    def fit(train: np.ndarray, _: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        head = create_head("discrete-cd", **SMALL, **NETWORKS[name], tokens=BASES, epochs=epochs, seed=seed)
        head.fit(FeatureSet({"tokens": train.astype(np.float32)}))
        return lambda sequences: head.score(FeatureSet({"tokens": sequences.astype(np.float32)}))

    return fit


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=",".join(DATA), help="comma-separated")
    parser.add_argument("--inside", type=int, default=5, help="classes to train on")
    parser.add_argument("--outside", type=int, default=5, help="other classes")
    parser.add_argument("--rows", type=int, default=600, help="training rows of a class; test rows are 200")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table = []
    for seed in range(given.seeds):
        for data in map(DATA.__getitem__, given.data.split(",")):
            classes = given.inside + given.outside
            sequences, labels = data(classes, given.rows, 2 * seed)
            train = labels < given.inside
            tests, kinds = data(classes, 200, 2 * seed + 1)
            inside = tests[kinds < given.inside]
            sets = {"other classes": tests[kinds >= given.inside]}
            sets |= {
                f"mutated {rate}": token_noise(inside, BASES, rate=rate, seed=seed) for rate in (0.1, 0.3)
            }
            fits = {"Markov chain": markov_chain, "Mahalanobis of 4-mers": mahalanobis}
            fits |= {name: energy(name, given.epochs, seed) for name in NETWORKS}
            for name, fit in fits.items():
                score = fit(sequences[train], labels[train])
                known = score(inside)
                row = {"data": data.__name__, "seed": seed, "score": name}
                row |= {other: round(100 * auroc(known, score(rows)), 1) for other, rows in sets.items()}
                print(json.dumps(row), flush=True)
                table.append(row)
    show("AUROC in percent", table)
    save(given.json, environment(), rows=table)


if __name__ == "__main__":
    main()
