"""Effect of published settings, and of the stages of a network, on post-hoc heads: AUROC on the sets of a cache.

    python benchmarks/posthoc.py --cache feature_cache --backbone densenet-100-12 --ood cifar100,textures

Every head with different published settings for different networks is fitted with each of them, NAC with only the
classifier's input and with all stages in the cache, and Gram if the cache has Gram sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from common import cache_parser, save, show

from featood import FeatureSet, create_head, open_cache
from featood.heads import head_class
from featood.heads.base.head import Head
from featood.metrics import auroc
from featood.pipeline.resolve import find_set
from featood.pipeline.selection import select
from featood.speed.environment import environment

RESHAPING = ("ash-b", "ash-p", "ash-s", "scale", "react", "dice", "vra")


def heads(train: FeatureSet) -> Iterator[tuple[str, Head]]:
    """Iterate over the heads to compare, each with a label."""
    for name in RESHAPING:
        yield f"{name}, default", create_head(name)
        for preset in head_class(name).presets:
            yield f"{name}, {preset}", create_head(name, preset)
    yield "nac, classifier's input", create_head("nac", features=(train.main,))
    if any(name.endswith(".nac") for name in train.features):
        yield "nac, all stages", create_head("nac")
    if any(name.split(".")[-1] == "gram" for name in train.features):
        yield "gram", create_head("gram")


def main() -> None:
    """Measure and print."""
    given = cache_parser(__doc__).parse_args()
    selection = select(open_cache(given.cache), given.backbone, given.dataset)
    train, test = selection.open(selection.train_split()), selection.open(selection.test_split())
    odd = {name: find_set(selection.cache, test, name) for name in given.ood.split(",")}
    rows: list[dict[str, Any]] = []
    for label, head in heads(train):
        known = np.asarray(head.fit(train).score(test))
        found = {
            name: round(100 * auroc(known, np.asarray(head.score(data))), 2) for name, data in odd.items()
        }
        rows.append({"head": label, **found})
    show(f"AUROC in %, {train.name} ({len(train)} rows) and {test.name} ({len(test)})", rows)
    save(given.json, environment(), auroc=rows)


if __name__ == "__main__":
    main()
