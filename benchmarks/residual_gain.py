"""What HEAT's residual energies add to their priors: AUROC with and without the residual, over paired seeds.

    python benchmarks/residual_gain.py gain.jsonl --cache CACHE --backbone NAME --dataset cifar10 \
        --ood cifar100 tiny-imagenet-resize textures
    python benchmarks/residual_gain.py gain.jsonl --report

Each fit adds a line of JSON to the file; fits already in the file are skipped, so use another file for other heads or
options. A data set without a training split is divided: two thirds of its rows are for training. ``composition`` is the
sum of the heads' scores, each standardised by its mean and standard deviation on training rows, beside the same sum of
the priors. ``--preset`` uses published settings. Times are processor time of one thread, or on a GPU seconds.
"""

from __future__ import annotations

__all__: list[str] = []

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import show
from scipy.stats import t as student

from featood import FeatureSet, create_head, open_cache
from featood.errors import FeatoodError
from featood.metrics import auroc

HEADS = ("heat-gmm", "heat-gmm-std", "heat-el")
COMPOSITION = "composition"
CALIBRATION = 10_000
"""Training rows whose scores standardise the members of a composition."""


def open_sets(given: argparse.Namespace) -> tuple[FeatureSet, FeatureSet, dict[str, FeatureSet]]:
    """Return training rows, test rows and OOD sets."""
    cache = open_cache(given.cache)
    place = f"{given.backbone}/{given.dataset}"
    test = cache[f"{place}/test"]
    try:
        train = cache[f"{place}/train"]
    except FeatoodError:
        border = 2 * len(test) // 3
        train, test = test.rows(slice(0, border)), test.rows(slice(border, None))
    train, test = train.rows(slice(0, given.rows)), test.rows(slice(0, given.test_rows))
    odd = {name: cache[f"{given.backbone}/{name}/test"].rows(slice(0, given.test_rows)) for name in given.ood}
    return train.to_torch(), test.to_torch(), {name: rows.to_torch() for name, rows in odd.items()}


def energies(head: Any, rows: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the energies of the prior, divided by its temperature, and the scores, ``[N]`` each."""
    _, prior = head.prepared
    blocks = (head.vectors(head.transform_block(block, head.state)).float() for block in rows.blocks())
    alone = torch.cat([prior.energy(block.to(head.device)).double().cpu() for block in blocks])
    return alone.numpy() / head.prior_temperature, np.asarray(head.score(rows))


def fits(given: argparse.Namespace, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Fit the heads with each seed, and yield a line for each head and for their composition."""
    train, test, odd = open_sets(given)
    some = train.rows(slice(0, CALIBRATION))
    for seed in range(given.seeds):
        if all((given.backbone, given.preset, name, seed) in done for name in (*given.heads, COMPOSITION)):
            continue
        sums: dict[str, Any] = {}
        for name in given.heads:
            start = time.process_time()
            options = dict(pair.split("=") for pair in given.option)
            head = create_head(
                name, given.preset, seed=seed, **{k: json.loads(v) for k, v in options.items()}
            )
            head.fit(train, device=given.device)
            took = time.process_time() - start
            found = {key: energies(head, rows) for key, rows in {"": test, **odd}.items()}
            yield line(given, name, seed, found) | {
                "seconds": round(took, 1),
                "training": head.record.training,
            }
            for which, values in enumerate(energies(head, some)):
                for key, both in found.items():
                    term = (both[which] - values.mean()) / values.std()
                    sums.setdefault(key, [0.0, 0.0])[which] += term
        yield line(given, COMPOSITION, seed, sums)


def line(given: argparse.Namespace, name: str, seed: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the AUROC (%) of prior and score on each set."""
    sets = {
        key: [100 * auroc(found[""][which], both[which]) for which in (0, 1)]
        for key, both in found.items()
        if key
    }
    prior, score = np.mean(list(sets.values()), 0)
    where = {"backbone": given.backbone, "preset": given.preset, "head": name, "seed": seed}
    return where | {"prior": prior, "score": score, "gain": score - prior, "sets": sets}


def report(path: Path) -> None:
    """Print mean AUROC of prior and score, and the gain with its 95 % interval over the seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        groups.setdefault((row["backbone"], row["preset"] or "defaults", row["head"]), []).append(row)
    rows = []
    for (backbone, preset, name), lines in groups.items():
        gains = np.array([row["gain"] for row in lines])
        half = float("nan")
        if len(gains) > 1:
            half = student.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
        rows.append(
            {
                "backbone": backbone,
                "settings": preset,
                "head": name,
                "seeds": len(lines),
                "prior": f"{np.mean([row['prior'] for row in lines]):.2f}",
                "score": f"{np.mean([row['score'] for row in lines]):.2f}",
                "gain": f"{gains.mean():+.2f} ±{half:.2f}",
                "seconds": f"{np.mean([row.get('seconds', 0) for row in lines]):.0f}",
            }
        )
    show("mean AUROC (%) over the sets; gain of the residual ± half of its 95 % interval", rows)


def main() -> None:
    """Run the fits that are not in the file, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="file of JSON lines to continue")
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--backbone", help="folder in the cache")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--ood", nargs="+", default=[])
    parser.add_argument("--rows", type=int, default=15_000)
    parser.add_argument("--test-rows", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS, help="members of the composition")
    parser.add_argument("--preset")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="option of all heads, in JSON"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", action="store_true", help="print the table without further fits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    done = set()
    if given.file.exists():
        found = map(json.loads, given.file.read_text(encoding="utf-8").splitlines())
        done = {(row["backbone"], row["preset"], row["head"], row["seed"]) for row in found}
    if not given.report:
        for row in fits(given, done):
            if (row["backbone"], row["preset"], row["head"], row["seed"]) not in done:
                with given.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    report(given.file)


if __name__ == "__main__":
    main()
