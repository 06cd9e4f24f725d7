"""``featood import``."""

from __future__ import annotations

__all__ = ["import_"]

import rich_click as click
from click.core import ParameterSource

from featood.cli.common import cache_option, data_dir_option, numbers, say

ARRAY = click.Path(exists=True, dir_okay=False)
SOURCES = ("table", "csv", "features")
ONLY_FOR = {
    **dict.fromkeys(("label", "header", "ood_classes"), ("csv",)),
    "rows": ("table",),
    **dict.fromkeys(("parts", "seed", "scale"), ("table", "csv")),
    **dict.fromkeys(("logits", "labels", "classifier"), ("features",)),
    **dict.fromkeys(("split", "ood"), ("csv", "features")),
}
"""What an option goes with; with anything else it would do nothing."""


@click.command("import")
@click.option("--table", help="A table known by name (see featood datasets): segment, two-moons, ...")
@click.option("--csv", help="A file of separated values, one row each: .csv, .tsv, .txt, plain or .gz.")
@click.option(
    "--features",
    multiple=True,
    help="Array file [N, D] (.npy, .npz, .safetensors), or NAME=FILE; may be repeated.",
)
@click.option("--label", default="", help="Column of classes in --csv: its name or position (-1: the last).")
@click.option("--header/--no-header", default=None, help="Whether the first line of --csv names the columns.")
@click.option(
    "--ood-classes", default="", help="Classes of --csv that become the set DATASET-ood, comma-separated."
)
@click.option("--rows", type=int, help="Rows of a generated --table.")
@click.option(
    "--parts",
    callback=numbers,
    default="60,20,20",
    show_default=True,
    help="Shares of train, val and test (or of train and test) of a table.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Deals out the rows of a table.",
)
@click.option(
    "--scale",
    type=click.Choice(["none", "min-max", "standard"]),
    help="Scale a table's columns by its train rows (default: the table's own, or none).",
)
@click.option("--logits", type=ARRAY, help="Array file [N, C].")
@click.option("--labels", type=ARRAY, help="Array file [N] of integers; negative = unknown.")
@click.option(
    "--classifier", type=ARRAY, help="File with arrays 'weight' [C, D] and, where there is one, 'bias' [C]."
)
@click.option("--backbone", default="", help="Name for what made the embeddings (of a table: table-DATASET).")
@click.option("--dataset", default="", help="Name of the dataset (default: that of the table or file).")
@click.option("--split", default="", help="Import all rows as this split (arrays: test; tables: by --parts).")
@click.option("--ood", is_flag=True, help="An out-of-distribution set: never the default of fit and score.")
@click.option("--store", type=click.Choice(["zarr", "hdf5"]), default="zarr", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace sets of these names.")
@data_dir_option
@cache_option
def import_(
    table: str | None, csv: str | None, features: tuple[str, ...], label: str, header: bool | None, ood_classes: str,
    rows: int | None, parts: tuple[float, ...], seed: int, scale: str | None, backbone: str, dataset: str, split: str,
    ood: bool, store: str, overwrite: bool, data_dir: str | None, cache_root: str, **arrays: str | None,
) -> None:  # fmt: skip
    """Cache rows that need no backbone here: tables, and embeddings made elsewhere.

    featood import --table segment

    featood import --csv flowers.csv --label species --ood-classes virginica

    featood import --features train.npy --labels y.npy --backbone minilm --dataset news --split train
    """
    from featood.cache import import_files, open_cache, slug
    from featood.engine.selection import OOD
    from featood.engine.tables import TableImport, import_csv, import_table
    from featood.errors import UsageError

    given = [name for name, value in zip(SOURCES, (table, csv, features), strict=True) if value]
    if len(given) != 1:
        raise UsageError("name what to import: one of --table NAME, --csv FILE and --features FILE")
    context = click.get_current_context()
    assert context is not None
    for name, sources in ONLY_FOR.items():
        if given[0] not in sources and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            flag, goes = name.replace("_", "-"), " or ".join(f"--{source}" for source in sources)
            raise UsageError(f"--{flag} goes with {goes}, not with --{given[0]}")
    cache = open_cache(cache_root)
    how = TableImport(dataset, backbone, parts, seed, scale or "", store, overwrite)
    if table:
        sets = import_table(cache, table, how, rows, data_dir)
    elif csv:
        classes = [name.strip() for name in ood_classes.split(",") if name.strip()]
        sets = import_csv(cache, csv, label, how, header, classes, split, ood, say)
    else:
        if not (backbone and dataset):
            raise UsageError(
                "--features needs --backbone NAME, for what made the embeddings, and --dataset NAME"
            )
        key = f"{slug(backbone)}/{slug(dataset)}/{slug(split or 'test')}"
        run = {"role": OOD} if ood else {}
        sets = [import_files(cache, key, features, **arrays, store=store, overwrite=overwrite, run=run)]
    for feature_set in sets:
        click.echo(f"{feature_set.name}: {len(feature_set)} rows imported")
