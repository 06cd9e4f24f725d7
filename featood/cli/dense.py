"""``featood dense``: extract, score, paste."""

from __future__ import annotations

__all__ = ["dense"]

from pathlib import Path
from typing import Any

import rich_click as click

from featood.cli.common import (
    Place,
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    data_dir_option,
    dataset_option,
    head_file_option,
    names,
    numbers,
    quiet_downloads,
    table,
)
from featood.cli.completion import fitted_heads
from featood.cli.options import parse_pairs
from featood.reporter import TerminalReporter, print_line

COLUMNS = ("auroc", "aupr_out", "fpr95_ood", "siou", "ppv", "f1", "pro", "image_auroc")
TITLES = ("head", "AUROC", "AP", "FPR95", "sIoU", "PPV", "F1*", "AU-PRO", "images")


@click.group()
def dense() -> None:
    """Detect out-of-distribution pixels or patches in images with masks.

    Extract a sample of pixels, fit heads on them by featood fit, and score all pixels of test images.
    """


def _size(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = value.split(",")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise click.BadParameter(f"'{value}' is not a side in pixels, or HEIGHT,WIDTH")
    return int(sides[0]), int(sides[-1])


@dense.command()
@click.option(
    "--backbone", default="",
    help="A network for segmentation, python:FILE.py:CALLABLE; or with --tap, any backbone of featood extract.",
)  # fmt: skip
@click.option(
    "--dataset", required=True,
    help="street-hazards, lost-and-found, fishyscapes, road-anomaly, road-anomaly21, road-obstacle21, "
    "mvtec-ad:CATEGORY, or the path of a folder with SPLIT/images and SPLIT/masks.",
)  # fmt: skip
@click.option("--split", multiple=True, default=("train",), show_default=True, help="May be repeated.")
@click.option(
    "--tap", "taps", callback=names,
    help="Modules whose maps to use, comma-separated: layer2,layer3 (default: the input of the last layer of a network "
    "for segmentation).",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(1), default=3, show_default=True,
    help="Side of the square over which tapped maps are averaged at each position.",
)  # fmt: skip
@click.option(
    "--pixels", type=click.IntRange(0), default=100, show_default=True,
    help="Rows of each image, drawn from its in-distribution pixels (0: all of them).",
)  # fmt: skip
@click.option(
    "--image-size", callback=_size, metavar="SIDE|HEIGHT,WIDTH",
    help="Size to which images are resized, without a crop (default: that of the first image).",
)  # fmt: skip
@click.option("--weights", default="", help="As for featood extract.")
@click.option(
    "--arch-option", multiple=True, metavar="NAME=VALUE", help="As for featood extract; may be repeated."
)
@click.option("--name", default="", help="Folder in the cache (default: the backbone, with its weights).")
@click.option("--mean", callback=numbers, help="Mean of each channel on [0, 1], comma-separated.")
@click.option(
    "--std", callback=numbers, help="Standard deviation of each channel on [0, 1], comma-separated."
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), default="float16", show_default=True,
    help="Data type of the stored features; logits are float32.",
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
    help="Seed of the draw of pixels, and of random weights.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace rows that were extracted with other settings.")
@data_dir_option
@cache_option
@quiet_downloads
def extract(
    backbone: str, dataset: str, split: tuple[str, ...], weights: str, arch_option: tuple[str, ...], name: str,
    mean: Any, std: Any, seed: int, data_dir: str | None, cache_root: str, **how: Any,
) -> None:  # fmt: skip
    """Cache a sample of the in-distribution pixels of images, as rows for featood fit.

    Example: featood dense extract --backbone python:net.py:build --dataset ./scenes
    """
    from featood.pipeline.dense_extraction import DenseOptions, extract_pixels
    from featood.pipeline.extraction import Network, known_accuracy

    network = Network(backbone, weights, name, seed, mean, std, options=parse_pairs(arch_option))
    with TerminalReporter() as reporter:
        sets = extract_pixels(
            cache_of(cache_root, backbone), dataset, split, network, DenseOptions(seed=seed, **how),
            data_dir=data_dir, reporter=reporter,
        )  # fmt: skip
    for features in sets:
        line = f"{features.name}: {len(features)} rows; {features.main} {features.feature().shape[1]}"
        if features.logits is not None:
            line += f"; logits {features.logits.shape[1]}"
        if (share := known_accuracy(features)) is not None:
            line += f"; accuracy {share:.4f}"
        click.echo(line)


@dense.command()
@click.option(
    "--head", "heads", multiple=True, shell_complete=fitted_heads,
    help="Head to score with: a name or the folder of a fitted head; may be repeated (default: all fitted).",
)  # fmt: skip
@click.option("--ood", default="", help="Images with masks to score (default: those of the extraction).")
@click.option("--split", default="test", show_default=True, help="Their split.")
@click.option(
    "--min-size", type=click.IntRange(0), default=0, show_default=True,
    help="Predicted components of fewer pixels are removed, for sIoU, PPV and F1*.",
)  # fmt: skip
@click.option(
    "--pro-limit", type=click.FloatRange(0, 1, min_open=True), default=0.3, show_default=True,
    help="Largest false-positive rate of AU-PRO.",
)  # fmt: skip
@click.option(
    "--thresholds", type=click.IntRange(0), default=1_000_000, show_default=True,
    help="Number of in-distribution, and of out-of-distribution scores at which metrics of pixels are computed; with "
    "fewer pixels, and with 0, all of them are, and all metrics are exact.",
)  # fmt: skip
@click.option(
    "--maps", type=Place(file_okay=False),
    help="Folder of the score maps, float32 (default: in the cache, next to the fitted heads). The same command "
    "continues there after an interruption.",
)  # fmt: skip
@click.option(
    "--pictures", type=Place(file_okay=False),
    help="Write a PNG file of image, mask and scores for each image, into a folder for each head.",
)  # fmt: skip
@click.option("--json", "json_path", type=Place(dir_okay=False), help="Write the metrics as JSON.")
@click.option("--device", default="auto", show_default=True, help="Device of the network.")
@backbone_option
@dataset_option
@data_dir_option
@cache_option
@code_option
@head_file_option
@quiet_downloads
def score(
    heads: tuple[str, ...], ood: str, split: str, min_size: int, pro_limit: float, thresholds: int,
    maps: str | None, pictures: str | None,
    json_path: str | None, device: str, backbone: str, dataset: str, data_dir: str | None, cache_root: str,
    code: tuple[str, ...],
) -> None:  # fmt: skip
    """Score all pixels of images with masks, and print metrics of pixels and of connected components.

    Pixels of all images are ranked together. sIoU, PPV and F1* are those of SegmentMeIfYouCan, at the threshold with
    the best F1 of pixels; AU-PRO is that of MVTec AD; the last column is the AUROC of the highest score of each image.

    Example: featood dense score --head knn --ood road-anomaly --pictures maps
    """
    from featood.cache.feature_cache import slug
    from featood.pipeline.dense_results import dense_results, save_results
    from featood.pipeline.dense_scoring import score_pixels
    from featood.pipeline.fitted_heads import chosen_heads
    from featood.pipeline.selection import select
    from featood.report import write_json, write_score_pictures
    from featood.report.rows import percent

    selection = select(cache_of(cache_root, backbone, code), backbone, dataset, data_dir)
    with TerminalReporter() as reporter:
        chosen, skipped = chosen_heads(selection, heads, reporter)
        for head in skipped:
            reporter.line(f"{head.head} is left out: {head.reason}")
        found = score_pixels(selection, chosen, ood, split, folder=maps, device=device, reporter=reporter)
        rows = found.rows(pro_limit, min_size, thresholds or None, reporter)
    table(TITLES, [(row["head"], *(percent(row[name]) for name in COLUMNS)) for row in rows])
    results = dense_results(selection, found, rows, {"min_size": min_size, "pro_limit": pro_limit})
    save_results(found, results)
    print_line(f"score maps: {found.folder}; featood report --maps {found.folder} shows them")
    if json_path:
        write_json(json_path, results)
    if pictures:
        images = found.masked.images
        for label, drawn in found.maps.items():
            pixels = map(images.read, range(len(images)))
            folder = Path(pictures, slug(label))
            low, high = write_score_pictures(folder, images.ids, pixels, found.masks, drawn)
            print_line(f"{folder}: {len(drawn)} pictures, colours from {low:.6g} to {high:.6g}")


def _bounds(_: click.Context, __: click.Parameter, value: str) -> tuple[float, float]:
    try:
        low, high = value.split(",")
        return float(low), float(high)
    except ValueError:
        raise click.BadParameter(f"'{value}' is not LOW,HIGH") from None


@dense.command()
@click.option(
    "--dataset", required=True, help="Images with masks, in-distribution; see featood dense extract."
)
@click.option("--split", default="train", show_default=True)
@click.option(
    "--objects", required=True, type=Place(dir_okay=False),
    help="Annotations in the form of COCO, such as coco/annotations/instances_val2017.json.",
)  # fmt: skip
@click.option(
    "--object-images", type=Place(file_okay=False),
    help="Folder of the images of these (default: the folder of their name, coco/val2017).",
)  # fmt: skip
@click.option(
    "--exclude", callback=names, help="Categories that are in-distribution, comma-separated: person,car."
)
@click.option(
    "--smallest", type=click.FloatRange(0), default=100, show_default=True,
    help="Least area of an object in its image, in pixels.",
)  # fmt: skip
@click.option(
    "--share", type=click.FloatRange(0, 1), default=1.0, show_default=True,
    help="Share of the images that get objects.",
)  # fmt: skip
@click.option(
    "--most", type=click.IntRange(1), default=1, show_default=True,
    help="Largest number of objects in an image.",
)  # fmt: skip
@click.option(
    "--size", callback=_bounds, default="0.1,0.5", show_default=True, metavar="LOW,HIGH",
    help="Longer side of an object, relative to the shorter side of the image.",
)  # fmt: skip
@click.option(
    "--rows", callback=_bounds, default="0,1", show_default=True, metavar="LOW,HIGH",
    help="Vertical position of its centre, relative to the height: 0.5,1 is the lower half.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--out",
    required=True,
    type=Place(file_okay=False),
    help="Folder to write the split to; also a --dataset.",
)
@data_dir_option
def paste(
    dataset: str, split: str, objects: str, object_images: str | None, exclude: tuple[str, ...], smallest: float,
    out: str, data_dir: str | None, **how: Any,
) -> None:  # fmt: skip
    """Paste objects of other images into images with masks, as out-of-distribution pixels.

    The result is a folder of images and masks, to validate detectors on, or to train a network that separates such
    pixels. Objects have hard edges, so a detector that is good at them may only have learned the edges.

    Example: featood dense paste --dataset ./scenes --objects coco/annotations/instances_val2017.json --out pasted
    """
    from featood.data.masked.coco import open_coco
    from featood.data.masked.layouts import open_masked
    from featood.data.masked.pasting import PastedSet, PasteOptions
    from featood.pipeline.dense_pasting import write_pasted

    found = open_coco(objects, object_images, exclude, smallest)
    pasted = PastedSet(open_masked(dataset, split, data_dir), found, PasteOptions(**how))
    with TerminalReporter() as reporter:
        target = write_pasted(pasted, out, reporter)
    click.echo(f"{target}: {len(pasted)} images, with some of {len(found)} objects")
