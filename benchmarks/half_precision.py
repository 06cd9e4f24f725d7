"""AUROC of every head without a trained network, with features stored in float32 and rounded to float16.

    python benchmarks/half_precision.py --cache feature_cache --backbone densenet-100-12 --ood cifar100,textures

Both fit and test rows are rounded; logits and labels stay as they are. The table has the mean over the sets, and the
largest difference of a set, in percentage points.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from common import cache_parser, save, show

from featood import FeatureSet, create_head, open_cache
from featood.errors import FeatoodError
from featood.heads import head_class, list_heads
from featood.metrics import auroc
from featood.pipeline.resolve import find_set
from featood.pipeline.selection import select
from featood.speed.environment import environment


def stored(data: FeatureSet, dtype: str) -> FeatureSet:
    """Return the set in memory, with its features rounded to a type."""
    read = {name: np.asarray(values[:]).astype(dtype) for name, values in data.features.items()}
    others = {
        name: None if (values := getattr(data, name)) is None else values[:] for name in ("logits", "labels")
    }
    return dataclasses.replace(data, features=read, ids=None, content="", **others)


def main() -> None:
    """Measure and print."""
    given = cache_parser(__doc__).parse_args()
    selection = select(open_cache(given.cache), given.backbone, given.dataset)
    names = (selection.train_split(), selection.test_split())
    sets = [selection.open(name) for name in names]
    sets += [find_set(selection.cache, sets[1], name) for name in given.ood.split(",")]
    exact, rounded = ([stored(data, dtype) for data in sets] for dtype in ("float32", "float16"))
    rows: list[dict[str, Any]] = []
    for name in list_heads():
        if head_class(name).trains or head_class(name).composes:
            continue
        try:
            both = [_aurocs(name, *data) for data in (exact, rounded)]
        except FeatoodError as error:
            print(f"{name} left out: {error}")
            continue
        means = [float(np.mean(values)) for values in both]
        worst = max(np.subtract(both[1], both[0]), key=abs)
        rows.append(
            {
                "head": name,
                "float32": round(means[0], 3),
                "float16": round(means[1], 3),
                "worst": round(worst, 4),
            }
        )
    rows.sort(key=lambda row: -abs(row["worst"]))
    show(f"AUROC in %, {sets[0].name} ({len(sets[0])} rows) and {sets[1].name} ({len(sets[1])})", rows)
    save(given.json, environment(), auroc=rows)


def _aurocs(name: str, train: FeatureSet, test: FeatureSet, *outliers: FeatureSet) -> list[float]:
    head = create_head(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if head.learns:
            head.fit(train)
        known = head.score(test)
        return [100 * auroc(known, head.score(data)) for data in outliers]


if __name__ == "__main__":
    main()
