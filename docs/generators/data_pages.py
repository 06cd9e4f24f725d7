"""Pages of published weights and of datasets, generated from their lists."""

from __future__ import annotations

__all__ = ["data_pages"]

from prose import escaped, table

from featood.data import DatasetEntry, list_benchmarks, list_datasets, list_suites, suite
from featood.extractors.backbones import PublishedWeights, list_published


def data_pages() -> dict[str, str]:
    """Return the Markdown of both pages by their path."""
    return {"data/weights.md": _weights(), "data/images.md": _images()}


def _weights() -> str:
    entries = list_published().values()
    rows = [
        (
            f"`{one.name}`", one.dataset, escaped(one.training), _percent(one.accuracy), _percent(one.measured),
            _licence(one), _checksum(one), f"[file]({one.url})",
        )
        for one in entries
    ]  # fmt: skip
    tried = sum(one.measured is not None for one in entries)
    text = (
        f"{len(entries)} files of weights that others published, by name; "
        "[how to use them](../guides/published-weights.md). *Published* is the accuracy in percent as its authors "
        "state it, *tried* the accuracy with featood on 1,000 test images. "
        f"{tried} files were tried; of the others, the names and shapes were tested on files made for this purpose, so "
        "compare the accuracy with the published one. "
        "*Checksum* says who states the SHA-256; without one, that of the first download is kept."
    )
    header = ("Backbone", "Trained on", "Training", "Published", "Tried", "Licence", "Checksum", "")
    return f"---\nhide: [toc]\n---\n\n# Published weights\n\n{text}\n\n{table(header, rows)}\n"


def _licence(one: PublishedWeights) -> str:
    return f"[{one.licence or 'not stated'}]({one.page})"


def _checksum(one: PublishedWeights) -> str:
    return one.checksum_from if one.checksum else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _images() -> str:
    rows = [
        (
            f"`{one.name}`", one.kind, escaped(one.title), str(one.num_classes or ""), ", ".join(one.splits),
            _selector(one), _download(one), "no" if one.untried else "", escaped(one.source),
        )
        for one in list_datasets()
    ]  # fmt: skip
    header = ("Name", "Kind", "Title", "Classes", "Splits", "After a colon", "--download", "Tried", "Source")
    suites = [(f"`{name}`", ", ".join(f"`{member}`" for member in suite(name))) for name in list_suites()]
    benchmarks = [
        (
            f"`{one.name}`", f"[{one.protocol.title}]({one.protocol.page})", f"`{one.dataset}`",
            "; ".join(f"{group}: {', '.join(f'`{each}`' for each in sets)}" for group, sets in one.groups.items()),
        )
        for one in list_benchmarks().values()
    ]  # fmt: skip
    text = (
        "Sets of images, texts and recordings known by name. *no* under *Tried* marks sets whose published files were "
        "not at hand: their layout was tested on small files only. Any other folder is given by its path. "
        "*list=* are the rows of an image list of OpenOOD."
    )
    shifted = (
        "The sets of a suite `...-shifted` have the classes of the in-distribution set under a covariate shift. "
        "Full-spectrum detection (`featood score --shifted`) counts them as in-distribution, so heads should *not* "
        "separate them."
    )
    return (
        f"---\nhide: [toc]\n---\n\n# Datasets\n\n{text}\n\n{table(header, rows)}\n\n## Suites\n\n{shifted}\n\n"
        f"{table(('Suite', 'Sets'), suites)}\n\n## Benchmarks\n\n`featood benchmark NAME` scores heads on them.\n\n"
        f"{table(('Benchmark', 'Protocol', 'In-distribution', 'Groups'), benchmarks)}\n"
    )


def _selector(one: DatasetEntry) -> str:
    if one.parts is not None or one.generate is not None:
        return "options"
    lists = [f"list={folder}" for folder in one.lists] if len(one.lists) > 1 else []
    return ", ".join([*one.groups, *["classes"] * bool(one.num_classes), *lists])


def _download(one: DatasetEntry) -> str:
    if one.download is not None:
        return "by torchvision"
    if not one.files:
        return ""
    return "with checksum" if all(checksum for *_, checksum in one.files) else "without checksum"
