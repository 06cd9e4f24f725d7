"""Detection and training time of every head that trains a network, over several seeds.

On cached features::

    python benchmarks/learned.py --cache feature_cache --backbone NAME --ood a,b,c --outliers d --json learned.json

or on a built-in table, split anew for each seed into 60 % for training, 20 % for early stopping, and 20 % for testing::

    python benchmarks/learned.py --table segment --seeds 5 --json segment.json

All heads process the same number of rows, except those of `--own-epochs`; other differences from the defaults are in
`OPTIONS`. Nothing is selected on the scored sets. Each fit uses one thread, and its time is processor time, which is
independent of other jobs. Fits already in the JSON file are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from common import show

from featood.speed.environment import environment

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "glow-vector": {"width": 128},
    "realnvp": {"width": 128},
    "maf": {"width": 128},
    "iresnet": {"width": 64, "layers": 4},
    "spline-flow": {"width": 64, "layers": 2},
    "approximate-flow": {"layers": 4},
}
"""Differences from the defaults, to save time."""
VARIANTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "approximate-flow": [{"kind": kind} for kind in ("reparameterized", "svd", "matrix-exponential")],
    "natpn": [{"flow": "radial"}],
    "postnet": [{"space": "none"}, {"training": "sequential"}, {"preset": "published"}],
    "prior-network": [{"direction": "forward"}],
    "radial-flow": [{"separate": True}],
}
"""Options added by `--variants`; all objectives of open-set are always included."""
BATCH = 512
"""Rows per update of most heads; those with smaller batches make more updates on the same rows."""
METRICS = ("auroc", "fpr95", "aupr_in", "f1_macro", "accuracy", "brier")

Job = tuple[str, dict[str, Any], int]


def jobs(given: argparse.Namespace) -> Iterator[Job]:
    """List the fits: name, options, seed."""
    from featood.heads import head_class, list_heads
    from featood.heads.compositions._composition import Composition
    from featood.heads.open_set.open_set import OBJECTIVES

    for name, card in list_heads().items():
        cls = head_class(name)
        if (
            not cls.trains
            or issubclass(cls, Composition)
            or (given.heads and name not in given.heads.split(","))
        ):
            continue
        if "outliers" in card.needs and not given.outliers:
            continue
        points: list[dict[str, Any]] = [{}, *map(dict, VARIANTS.get(name, ()) if given.variants else ())]
        if name == "open-set":
            points = [{"objective": each} for each in OBJECTIVES if given.outliers or each not in EXPOSED]
        for point in points:
            yield from ((name, point, seed) for seed in range(given.seeds))


def open_sets(given: argparse.Namespace, seed: int) -> tuple[Any, Any, dict[str, Any], Any]:
    """Return training rows, test rows, the OOD sets to score, and training rows with outliers."""
    from featood.cache import FeatureCache
    from featood.pipeline.derived_sets import with_outliers
    from featood.pipeline.selection import select
    from featood.pipeline.table_import import import_table
    from featood.pipeline.table_writer import TableImport

    names = [name for name in given.ood.split(",") if name]
    if given.table:
        with tempfile.TemporaryDirectory() as folder:
            how = TableImport(seed=seed, parts=(80, 20))
            sets = import_table(FeatureCache(folder), given.table, how, data_dir=given.data_dir)
            loaded = {one.name.split("/", 1)[1]: one.to_torch() for one in sets}
        train, test = loaded[f"{given.table}/train"], loaded[f"{given.table}/test"]
        odd = {
            name.split("/")[0]: one for name, one in loaded.items() if not name.startswith(f"{given.table}/")
        }
        return train, test, odd, None
    cache = FeatureCache(Path(given.cache))
    selection = select(cache, given.backbone, given.dataset)
    train = selection.open(selection.train_split(""))
    test = selection.open(selection.test_split(""))
    odd = {name: cache[f"{selection.backbone}/{name}/test"] for name in names}
    exposed = None
    if given.outliers:
        exposed = with_outliers(train, cache[f"{selection.backbone}/{given.outliers}/test"])
    return train, test, odd, exposed


def fit(job: Job, given: argparse.Namespace) -> dict[str, Any]:
    """Fit one head, and evaluate each of its scores."""
    import torch

    from featood.errors import FeatoodError
    from featood.heads import create_head
    from featood.pipeline.fitted_heads import with_score
    from featood.pipeline.presets import options_for_tables
    from featood.pipeline.scoring import score
    from featood.pipeline.variant_labels import variant_label

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    name, point, seed = job
    train, test, odd, exposed = open_sets(given, seed)
    label = variant_label(name, {**point, "seed": seed})
    tabular, _ = options_for_tables(name, train, point.get("preset"), point)
    head: Any = create_head(name, **{**tabular, **OPTIONS.get(name, {}), **point, "seed": seed})
    changed: dict[str, Any] = {"validation": 0.25} if given.table and head.options.get("validation") else {}
    rows = train
    if "outliers" in head.card.needs or (given.outliers and point.get("objective") in given.exposed):
        rows = exposed
    if name not in given.own_epochs.split(",") and "preset" not in point:
        changed |= {"epochs": max(1, round(given.updates * BATCH / len(train))), "updates": 0}
    head = create_head(name, **{**head.options, **changed})
    start = time.process_time()
    try:
        head.fit(rows)
    except FeatoodError as error:
        return {"label": label, "job": job, "error": str(error), "rows": []}
    head.annotate(fit_seconds=time.process_time() - start)
    if rows is exposed:
        odd = {key: value for key, value in odd.items() if key != given.outliers}
    heads = with_score({label: head}, "all") if head.card.scores else {label: head}
    scored = score(heads, test, odd).results["rows"]
    for row in scored:
        row["outliers"] = given.outliers if rows is exposed else ""
    return {
        "label": label,
        "job": job,
        "epochs": head.epochs,
        "training": head.record.training,
        "rows": scored,
    }


def main() -> None:
    """Run the fits that are not in the file, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--dataset", default="")
    parser.add_argument("--table", default="", help="a built-in table instead of cached features")
    parser.add_argument("--data-dir", default=os.environ.get("FEATOOD_DATA"))
    parser.add_argument("--ood", default="", help="OOD sets to score, comma-separated")
    parser.add_argument("--outliers", default="", help="set of outliers for heads that need them")
    parser.add_argument(
        "--heads", default="", help="names, comma-separated (default: all that train a network)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="at least two")
    parser.add_argument("--updates", type=int, default=1000, help="updates of 512 rows in each training")
    parser.add_argument(
        "--own-epochs", default="vmdls", help="heads that keep their own numbers of epochs and updates"
    )
    parser.add_argument("--variants", action="store_true", help="also fit heads with other options")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scores", action="store_true", help="print all scores, not only the default ones")
    parser.add_argument("--json", default="learned.json")
    given = parser.parse_args()
    given.exposed = EXPOSED

    file = Path(given.json)
    done: dict[str, Any] = json.loads(file.read_text())["fits"] if file.exists() else {}
    wanted = [job for job in jobs(given) if repr(job) not in done]
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(given.jobs) as pool:
        running = {pool.submit(fit, job, given): job for job in wanted}
        for number, future in enumerate(as_completed(running), 1):
            result = future.result()
            done[repr(running[future])] = result
            file.write_text(
                json.dumps({"environment": environment(), "given": vars(given), "fits": done}, indent=1)
            )
            seconds = result["rows"][0]["fit_s"] if result["rows"] else 0.0
            print(
                f"{number}/{len(wanted)} {result['label']} {seconds:.1f} s {result.get('error', '')}",
                flush=True,
            )
    report(done, given)


EXPOSED = (
    "outlier-exposure", "mixture-outlier-exposure", "entropic", "objectosphere", "background", "energy-bounded",
    "scone", "deep-sad",
)  # fmt: skip
"""Objectives that need outliers."""


def report(done: Mapping[str, Any], given: argparse.Namespace) -> None:
    """Print mean and standard error over the seeds, of the mean over the sets and of each set."""
    from featood.metrics import mean_and_error
    from featood.pipeline.repeats import repeated_rows

    rows = [row for fit in done.values() for row in fit["rows"]]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in repeated_rows(rows):
        groups.setdefault(row["head"], []).append(row)
    lines = []
    for name, sets in groups.items():
        default = "[" not in name or name.endswith(f"[{_default(name)}]")
        if not (default or given.scores):
            continue
        line: dict[str, Any] = {"head": name + ("*" if sets[0]["values"] and _outliers(rows, name) else "")}
        for key in METRICS:
            if all(key in row["values"] for row in sets):
                by_seed = [
                    sum(values) / len(values)
                    for values in zip(*(row["values"][key] for row in sets), strict=True)
                ]
                mean, error = mean_and_error(by_seed)
                line[key] = f"{100 * mean:.2f} ±{100 * error:.2f}"
            else:
                line[key] = "-"
        line |= {row["ood"]: f"{100 * row['auroc']:.2f}" for row in sets}
        line["fit CPU s"] = round(sets[0]["fit_s"], 1)
        line["fell back"] = sets[0].get("diverged", 0)
        lines.append(line)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    lines = [{key: line.get(key, "-") for key in columns} for line in lines]
    lines.sort(key=lambda line: str(line["auroc"]), reverse=True)
    show(
        "mean over the sets ± standard error over seeds, in %; then AUROC by set (* trained with outliers)",
        lines,
    )
    for result in done.values():
        if "error" in result:
            print(f"{result['label']}: {result['error']}")


def _default(label: str) -> str:
    from featood.heads import head_class

    scores = head_class(label.partition("@")[0].partition("[")[0]).card.scores
    return scores[0] if scores else ""


def _outliers(rows: list[dict[str, Any]], name: str) -> bool:
    from featood.pipeline.variant_labels import repeated_label

    return any(row["outliers"] for row in rows if repeated_label(row["head"]) == name)


if __name__ == "__main__":
    main()
