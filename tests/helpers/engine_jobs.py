"""Jobs that the tests of engines run in one process and in several: ``python engine_jobs.py FOLDER SET...``."""

import dataclasses
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from featood.cache import Classifier, FeatureCache, import_arrays
from featood.data import open_dataset
from featood.engines import LOCAL, open_engine
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.transform import Transform
from featood.heads import FitContext, create_head

KEY = "cifar-resnet20@random/digits/test"
ROWS = 297
"""Neither the size of a block nor a number of processes divides it."""
HEADS = ("mahalanobis", "gmm", "neco", "kpca", "pnml", "she", "kl-matching", "dice")
SIZES = {"kpca": {"size": 16}}


class Mortal:
    """A hook that ends the process of rank 1 at its third batch."""

    batches = 0

    def __call__(self, *_):
        if os.environ.get("RANK", os.environ.get("SLURM_PROCID")) == "1":
            self.batches += 1
            if self.batches == 3:
                os._exit(9)


def extracted(root, engine=LOCAL, killed=False):
    """Extract ten blocks; return the rows of each report of the progress, and those that were there before."""
    backbone = resolve_backbone("cifar-resnet20", "random", 10)
    if killed:
        backbone.module.register_forward_pre_hook(Mortal())
    images = open_dataset("digits", "test").subset(range(ROWS))
    options, reports = ExtractOptions(block_rows=32, batch_size=20), []
    done = extract(
        backbone, images, Transform(3, 16, 16, 0, (0.5,), (0.25,)), FeatureCache(root), options,
        progress=lambda rows, total: reports.append(rows), engine=engine,
    )  # fmt: skip
    return reports, done.resumed_rows


def store_rows(root):
    """Store 13,001 rows in four blocks, some of them without a class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 13_001)
    rows = rng.normal(size=(len(labels), 6)) + 3 * labels[:, None] * np.arange(6)
    weight, bias = rng.normal(size=(4, 6)), rng.normal(size=4)
    logits = rows @ weight.T + bias
    cache, line = FeatureCache(root), Classifier(weight, bias)
    import_arrays(cache, "rows/rows/train", {"avg": rows.astype("f")}, logits.astype("f"), labels, line)


def fitted(root, engine=LOCAL):
    """Fit heads on the stored rows, one of them on rows of which two are not finite; return all tensors by name."""
    stored, found = FeatureCache(root)["rows/rows/train"], {}
    broken = stored.features["avg"][:].copy()
    broken[[5, 9000], 2] = np.nan
    for name in (*HEADS, "cosine"):
        data = dataclasses.replace(stored, features={"avg": broken}) if name == "cosine" else stored
        head = create_head(name, nonfinite="drop", **SIZES.get(name, {}))
        head.fit(data, context=FitContext(engine=engine))
        found |= {f"{name}.{key}": value.contiguous() for key, value in head.state.items()}
        found[f"{name}.notes"] = torch.tensor(list("\n".join(head.record.notes).encode()))
        found[f"{name}.score"] = torch.from_numpy(head.score(data, engine=engine))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    with open_engine("torchrun") as engine:
        save_file(fitted(folder, engine), folder / f"{engine.world}.safetensors")
        for name in sys.argv[2:]:
            print(
                *extracted(folder / name, engine, killed=name == "lost" and engine.world == 3),
                sep="\n",
                flush=True,
            )
