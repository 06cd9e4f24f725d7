"""``featood import``."""

from __future__ import annotations

__all__ = ["import_"]

from typing import Any

import rich_click as click
from click.core import ParameterSource

from featood.cli.common import cache_option, data_dir_option, names, numbers
from featood.cli.runs import repeatable, write_run_option
from featood.remote import is_remote
from featood.reporter import TerminalReporter


class ArrayFile(click.Path):
    """An existing file, or the address of one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or address."""
        return value if is_remote(value) else super().convert(value, param, ctx)


ARRAY = ArrayFile(exists=True)
SHOWN = 10
SOURCES = ("table", "file", "features")
ONLY_FOR = {
    **dict.fromkeys(
        ("label", "header", "ood_classes", "drop", "keep", "tokens", "alphabet", "invalid"), ("file",)
    ),
    "rows": ("table",),
    **dict.fromkeys(("parts", "seed", "scale"), ("table", "file")),
    **dict.fromkeys(("logits", "labels", "classifier"), ("features",)),
    **dict.fromkeys(("split", "ood", "append"), ("file", "features")),
}
"""Sources with which an option may be combined; it has no effect on others."""


def _check_token_options(context: click.Context, tokens: str) -> None:
    """Refuse options without effect: those of tokens without tokens, and those of measurements with tokens."""
    from featood.errors import UsageError

    given, why = ("alphabet", "invalid"), "needs --tokens COLUMN"
    if tokens:
        given, why = ("drop", "keep"), "has no effect with --tokens, which leaves out other columns"
    for name in given:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{name} {why}")


@click.command("import")
@click.option("--table", help="Built-in table (see featood datasets): segment, two-moons, ...")
@click.option(
    "--file",
    "--csv",
    help="File of a table: .csv, .tsv, .txt (plain or compressed), .parquet, .feather, .arrow, .h5, .mat, ..., or "
    ".fasta, .tfrecord, or the folder of a Hugging Face dataset; or the address of a file, such as hf://....",
)
@click.option(
    "--features",
    multiple=True,
    help="Array file [N, D] (.npy, .npz, .safetensors, .pt, .h5, .mat) or table with vectors, or NAME=FILE; "
    "may be repeated.",
)
@click.option("--label", default="", help="Column of classes in --file: its name or position (-1: the last).")
@click.option(
    "--drop", callback=names, help="Columns of --file to drop, comma-separated: names or positions."
)
@click.option(
    "--keep",
    callback=names,
    help="Columns to keep that look like row numbers or have no name, comma-separated.",
)
@click.option(
    "--tokens",
    default="",
    help="Column of sequences of letters in --file, such as DNA: its name or position. Its letters become the features "
    "as token numbers; other columns are left out.",
)
@click.option(
    "--alphabet",
    default="",
    help="Letters of --tokens by their numbers 0, 1, 2, ... (default: that of the train split, or ACGT).",
)
@click.option(
    "--invalid",
    type=click.Choice(["error", "drop"]),
    default="error",
    show_default=True,
    help="What to do with --tokens that are empty, differ in length or have other letters.",
)
@click.option(
    "--header/--no-header",
    default=None,
    help="Whether the first line of a text file contains the column names.",
)
@click.option(
    "--ood-classes",
    callback=names,
    help="Classes of --file that become the set DATASET-ood, comma-separated.",
)
@click.option("--rows", type=int, help="Number of rows of a generated --table.")
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
    help="Seed of the random split of a table.",
)
@click.option(
    "--scale",
    type=click.Choice(["none", "min-max", "standard"]),
    help="Scaling of a table's columns, fitted on its train rows (default: the table's own, or none).",
)
@click.option("--logits", type=ARRAY, help="Array file [N, C].")
@click.option(
    "--labels", type=ARRAY, help="File of labels [N]: class names or numbers; negative numbers mean unknown."
)
@click.option("--classifier", type=ARRAY, help="File with arrays 'weight' [C, D] and optionally 'bias' [C].")
@click.option(
    "--backbone", default="", help="Name of the model that made the embeddings (for tables: table-DATASET)."
)
@click.option("--dataset", default="", help="Name of the dataset (default: name of the table or file).")
@click.option("--split", default="", help="Import all rows as this split (arrays: test; tables: by --parts).")
@click.option(
    "--ood", is_flag=True, help="Mark as out-of-distribution set: never used by default in fit and score."
)
@click.option("--store", type=click.Choice(["zarr", "hdf5"]), default="zarr", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace sets of these names.")
@click.option("--append", is_flag=True, help="Add the rows to the set of this name, if there is one.")
@data_dir_option
@cache_option
@write_run_option
@repeatable
def import_(
    table: str | None, file: str | None, features: tuple[str, ...], label: str, drop: tuple[str, ...],
    keep: tuple[str, ...],
    tokens: str, alphabet: str, invalid: str, header: bool | None, ood_classes: tuple[str, ...], rows: int | None,
    parts: tuple[float, ...], seed: int, scale: str | None, backbone: str, dataset: str, split: str, ood: bool,
    store: str, overwrite: bool, append: bool, data_dir: str | None, cache_root: str, **arrays: str | None,
) -> str:  # fmt: skip
    """Import tables, or embeddings computed elsewhere, into the cache.

    featood import --table segment

    featood import --file flowers.csv --label species --ood-classes virginica

    featood import --file bacteria.csv --label genus --tokens sequence

    featood import --features train.npy --labels y.npy --backbone minilm --dataset news --split train

    featood import --features today.npy --backbone minilm --dataset news --split test --append
    """
    from featood.cache import import_files, open_cache, slug
    from featood.errors import UsageError
    from featood.pipeline.selection import OOD
    from featood.pipeline.table_import import TableFile, import_table, import_table_file
    from featood.pipeline.table_writer import TableImport

    given = [name for name, value in zip(SOURCES, (table, file, features), strict=True) if value]
    if len(given) != 1:
        raise UsageError("give the data to import: one of --table NAME, --file FILE and --features FILE")
    context = click.get_current_context()
    assert context is not None
    for name, sources in ONLY_FOR.items():
        if given[0] not in sources and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            flag, goes = name.replace("_", "-"), " or ".join(f"--{source}" for source in sources)
            raise UsageError(f"--{flag} goes with {goes}, not with --{given[0]}")
    cache = open_cache(cache_root)
    how = TableImport(dataset, backbone, parts, seed, scale or "", store, overwrite, append)
    with TerminalReporter() as reporter, reporter.working(f"importing {table or file or dataset}"):
        if table:
            sets = import_table(cache, table, how, rows=rows, data_dir=data_dir)
        elif file:
            _check_token_options(context, tokens)
            source = TableFile(file, label, header, drop, keep, tokens, alphabet, invalid)
            sets = import_table_file(
                cache, source, how, ood_classes=ood_classes, split=split, ood=ood, reporter=reporter
            )
        else:
            if not (backbone and dataset):
                raise UsageError(
                    "--features needs --backbone NAME, the model that made the embeddings, and --dataset NAME"
                )
            key = f"{slug(backbone)}/{slug(dataset)}/{slug(split or 'test')}"
            run = {"role": OOD} if ood else {}
            sets = [
                import_files(
                    cache,
                    key,
                    features,
                    **arrays,
                    reporter=reporter,
                    store=store,
                    overwrite=overwrite,
                    append=append,
                    run=run,
                )
            ]
    for feature_set in sets:
        labels = feature_set.labels
        names = () if labels is None or (labels[:] < 0).all() else feature_set.classes
        some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        click.echo(
            f"{feature_set.name}: {len(feature_set)} rows imported"
            + (f", {len(names)} classes: {some}" if names else "")
        )
    return "" if ood else sets[0].name
