"""``featood import``."""

from __future__ import annotations

__all__ = ["import_"]

from typing import Any

import rich_click as click

from featood.cli.common import cache_option

ARRAY = click.Path(exists=True, dir_okay=False)


@click.command("import")
@click.option(
    "--features",
    multiple=True,
    required=True,
    help="Array file [N, D] (.npy, .npz, .safetensors), or NAME=FILE; may be repeated.",
)
@click.option("--logits", type=ARRAY, help="Array file [N, C].")
@click.option("--labels", type=ARRAY, help="Array file [N] of integers; negative = unknown.")
@click.option(
    "--classifier", type=ARRAY, help="File with arrays 'weight' [C, D] and, where there is one, 'bias' [C]."
)
@click.option("--backbone", required=True, help="Name for what made the embeddings.")
@click.option("--dataset", required=True, help="Name of the dataset.")
@click.option("--split", default="test", show_default=True)
@click.option("--ood", is_flag=True, help="An out-of-distribution set: never the default of fit and score.")
@click.option("--store", type=click.Choice(["zarr", "hdf5"]), default="zarr", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace a set of this name.")
@cache_option
def import_(
    features: tuple[str, ...], logits: str | None, labels: str | None, classifier: str | None,
    backbone: str, dataset: str, split: str, ood: bool, store: str, overwrite: bool, cache_root: str,
) -> None:  # fmt: skip
    """Cache embeddings made elsewhere: text, audio, tables, any vectors.

    Example: featood import --features train.npy --labels y.npy --backbone minilm --dataset news --split train
    """
    import numpy as np

    from featood.cache import Classifier, import_arrays, open_cache, read_array, slug
    from featood.engine.selection import OOD
    from featood.errors import DataError

    columns: dict[str, Any] = {}
    for given in features:
        name, _, path = given.rpartition("=")
        arrays = read_array(path, name or "features")
        columns |= {name: next(iter(arrays.values()))} if name and len(arrays) == 1 else arrays
    linear = None
    if classifier:
        parts = read_array(classifier)
        if "weight" not in parts:
            raise DataError(f"{classifier} must hold an array named weight (it has: {', '.join(parts)})")
        linear = Classifier(parts["weight"], parts.get("bias", np.zeros(len(parts["weight"]), "f4")))

    def single(path: str | None, key: str) -> Any:
        if path is None:
            return columns.pop(key, None)
        arrays = read_array(path, key)
        return arrays.get(key, next(iter(arrays.values())))

    feature_set = import_arrays(
        open_cache(cache_root), f"{slug(backbone)}/{slug(dataset)}/{slug(split)}", columns,
        single(logits, "logits"), single(labels, "labels"), linear, store=store, overwrite=overwrite,
        run={"role": OOD} if ood else {},
    )  # fmt: skip
    click.echo(f"{feature_set.name}: {len(feature_set)} rows imported")
