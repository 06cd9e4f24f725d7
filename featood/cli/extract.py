"""``featood extract``."""

from __future__ import annotations

__all__ = ["extract"]

from typing import Any

import rich_click as click

from featood.cli.common import cache_option, data_dir_option, names, numbers, quiet_downloads
from featood.cli.completion import image_sets
from featood.cli.engines import engine_of, engine_options
from featood.cli.options import parse_pairs
from featood.cli.runs import repeatable, write_run_option
from featood.reporter import TerminalReporter


@click.command()
@click.option(
    "--backbone",
    default="",
    help="cifar-resnet20.akamaster-cifar10, tv:NAME@WEIGHTS, timm:NAME, python:MODULE:CALLABLE, "
    "python:FILE.py:CALLABLE, a bare name, a folder written by featood train, or for texts st:FOLDER or hf:FOLDER, "
    "for recordings log-mel or torchaudio:NAME; featood backbones lists names.",
)
@click.option(
    "--dataset",
    required=True,
    shell_complete=image_sets,
    help="In-distribution dataset: a name, or the path of a folder.",
)
@click.option(
    "--split", multiple=True, help="Split to extract; may be repeated (default: every split found)."
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="For a quick try: extract only so many rows of each split, evenly spaced, as the dataset NAME:limit=N.",
)
@click.option(
    "--weights",
    default="",
    help="Safetensors or PyTorch file, FILE#ENTRY for an entry of it, or 'random' (default: the published weights).",
)
@click.option(
    "--arch-option",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of a network of featood, such as sn=true (featood backbones NAME lists them), or of one of timm, "
    "global_pool=avg; may be repeated.",
)
@click.option(
    "--name",
    default="",
    help="Folder in the cache (default: the backbone, with the weights if they are not the default).",
)
@click.option("--tap", "taps", callback=names, help="Further modules to tap, comma-separated: layer2,layer3.")
@click.option(
    "--pool",
    "pools",
    callback=names,
    help="Poolings, comma-separated: avg (of patches), std, max, avg_std, token (class token), token_avg, registers, "
    "gram, norm [default: avg,std; for a backbone without a classifier, its output].",
)
@click.option("--maps", is_flag=True, help="Also keep the last feature map unpooled, for rankfeat.")
@click.option(
    "--with",
    "further",
    callback=names,
    help="Further columns, comma-separated: odin; i-odin; adascale, for adascale-a and adascale-l; gaia-z and gaia-a, "
    "of the normalisation layers in the tapped stages, or of all; nac (one column per tapped stage); attention, of "
    "transformers; gradient-norm; complexity, for input-complexity; regret, of networks trained by vae.",
)
@click.option(
    "--without",
    callback=names,
    help="Columns to leave out of those that densities have by default: gradient-norm.",
)
@click.option(
    "--odin-epsilon",
    default=0.0014,
    show_default=True,
    help="Step of the perturbation of odin and i-odin, on [0, 1].",
)
@click.option(
    "--odin-temperature",
    default=1000.0,
    show_default=True,
    help="Softmax temperature in the gradient of odin and i-odin.",
)
@click.option(
    "--gaussian",
    default="",
    help="Folder of a fitted mahalanobis head: adds features of images moved towards its nearest mean, for "
    "mahalanobis-odin.",
)
@click.option(
    "--gaussian-epsilon", default=0.002, show_default=True, help="Step of this perturbation, on [0, 1]."
)
@click.option(
    "--regret-steps",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Updates of regret's posteriors.",
)
@click.option("--regret-lr", default=0.05, show_default=True, help="Learning rate of these updates.")
@click.option("--mc-dropout", type=click.IntRange(2), help="Number of passes with dropout, for mc-dropout.")
@click.option(
    "--dropout-rate",
    default=0.0,
    help="Dropout probability of these passes (default: as defined in the layers).",
)
@click.option(
    "--autoencoder",
    default="",
    help="Folder of a trained autoencoder: adds the first tapped stage for reconstructed images, for vmdls.",
)
@click.option(
    "--background",
    default="",
    help="Folder of a network trained as a density, often with --augment mutate:0.1, for likelihood-ratio.",
)
@click.option(
    "--outputs",
    type=click.Choice(["auto", "classes", "multi-label", "regression", "features"]),
    default="auto",
    show_default=True,
    help="Meaning of the network's outputs; heads that need logits require 'classes'.",
)
@click.option("--mean", callback=numbers, help="Mean of each channel on [0, 1], comma-separated.")
@click.option(
    "--std", callback=numbers, help="Standard deviation of each channel on [0, 1], comma-separated."
)
@click.option(
    "--image-size",
    type=click.IntRange(1),
    help="Side of the square input in pixels; position embeddings of a vision transformer are resampled.",
)
@click.option(
    "--resize",
    type=click.IntRange(1),
    help="Pixels to which the short side of an image is resized before the crop (default: as published).",
)
@click.option(
    "--max-length",
    type=click.IntRange(1),
    help="Number of tokens after which a text is cut off (default: that of the model).",
)
@click.option(
    "--class-order",
    type=click.Path(exists=True, dir_okay=False),
    help="File with the names of the class folders in the order of the network's outputs.",
)
@click.option(
    "--bits",
    type=click.IntRange(8, 16),
    default=16,
    show_default=True,
    help="Number of bits used by the values of 16-bit images.",
)
@click.option(
    "--exif/--no-exif", default=True, show_default=True, help="Rotate images by their EXIF orientation."
)
@click.option("--store", type=click.Choice(["zarr", "hdf5"]), default="zarr", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float16",
    show_default=True,
    help="Data type of the stored features; logits and single numbers, such as densities, are float32.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Floating-point precision of the backbone.",
)
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Number of processes that decode images or recordings (default: one per core for files).",
)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of random weights, and of dropout.",
)
@click.option(
    "--download", is_flag=True, help="Download the dataset if it is missing and has a public address."
)
@click.option("--strict", is_flag=True, help="Stop at the first image or recording that cannot be read.")
@click.option("--overwrite", is_flag=True, help="Replace features that were extracted with other settings.")
@click.option(
    "--append",
    is_flag=True,
    help="Add images to sets: take over the features of those that are cached, and compute the others.",
)
@engine_options
@data_dir_option
@cache_option
@write_run_option
@quiet_downloads
@repeatable
def extract(
    backbone: str, dataset: str, split: tuple[str, ...], weights: str, name: str, further: tuple[str, ...],
    without: tuple[str, ...], odin_epsilon: float, odin_temperature: float, mc_dropout: int | None,
    regret_steps: int, regret_lr: float,
    dropout_rate: float, autoencoder: str, background: str, gaussian: str, gaussian_epsilon: float,
    mean: Any, std: Any, image_size: int | None, resize: int | None, max_length: int | None, seed: int, download: bool,
    class_order: str | None, bits: int, exif: bool, data_dir: str | None, cache_root: str,
    arch_option: tuple[str, ...], limit: int | None,
    engine: str, ray_address: str, ray_gpus: float | None,
    **how: Any,
) -> str:  # fmt: skip
    """Run a backbone over a dataset and cache features and logits.

    To resume an interrupted extraction, run the same command again. Published weights (NETWORK.TAG) are read from the
    folder FEATOOD_WEIGHTS, by default ~/.cache/featood/weights, and downloaded if they are missing.

    Example: featood extract --backbone resnet50 --dataset imagenet
    """
    from featood.cache import open_cache
    from featood.data import Decoding
    from featood.data.selection import with_limit
    from featood.errors import UsageError
    from featood.extractors.adascale import TrivialPixels
    from featood.extractors.attention import AttentionEntropy
    from featood.extractors.background import Background
    from featood.extractors.complexity import Complexity
    from featood.extractors.dropout import MonteCarloDropout
    from featood.extractors.extract import ExtractOptions
    from featood.extractors.extras import Extra
    from featood.extractors.gaia import AverageAbnormality, ZeroDeflation
    from featood.extractors.gradient_norm import GradientNorm
    from featood.extractors.iodin import InvariantOdin
    from featood.extractors.mahalanobis_odin import MahalanobisOdin
    from featood.extractors.nac import Coverage
    from featood.extractors.perturb import Odin
    from featood.extractors.reconstruction import Reconstruction
    from featood.extractors.regret import Regret
    from featood.pipeline.extraction import ImageSource, Network, extract_dataset, known_accuracy

    named: list[Extra] = [
        Odin(odin_epsilon, odin_temperature), InvariantOdin(odin_epsilon, odin_temperature), TrivialPixels(),
        ZeroDeflation(), AverageAbnormality(), Coverage(), AttentionEntropy(), GradientNorm(),
        Complexity(), Regret(regret_steps, regret_lr),
    ]  # fmt: skip
    known = {extra.kind: extra for extra in named}
    for flag, given, accepted in (("with", further, known), ("without", without, [GradientNorm.kind])):
        if unknown := sorted(set(given) - set(accepted)):
            raise UsageError(f"--{flag} accepts the columns {', '.join(accepted)}, not {', '.join(unknown)}")
    if both := sorted(set(further) & set(without)):
        raise UsageError(f"--with and --without both name {', '.join(both)}; leave out one")
    extras = [known[name] for name in dict.fromkeys(further)]
    if mc_dropout:
        extras.append(MonteCarloDropout(mc_dropout, dropout_rate, seed))
    if autoencoder:
        if not how["taps"]:
            raise UsageError("--autoencoder compares features of a stage: name it by --tap")
        extras.append(Reconstruction.of(autoencoder, how["taps"][0]))
    if background:
        extras.append(Background.of(background))
    if gaussian:
        extras.append(MahalanobisOdin.of(gaussian, gaussian_epsilon))
    options = ExtractOptions(extras=extras, **{**how, "pools": how["pools"] or None})
    source = ImageSource(
        with_limit(dataset, limit or 0), split, data_dir, download, class_order, Decoding(bits, exif)
    )
    network = Network(
        backbone, weights, name, seed, mean, std, image_size, max_length, parse_pairs(arch_option), resize
    )
    with engine_of(engine, ray_address, ray_gpus) as place, TerminalReporter() as reporter:
        done = extract_dataset(
            open_cache(cache_root), source, network, options, without=without, engine=place, reporter=reporter
        )
    for extraction in done:
        features = extraction.features
        columns = ", ".join(f"{column} {values.shape[1]}" for column, values in features.features.items())
        line = f"{features.name}: {len(features)} rows; {columns}"
        if features.logits is not None:
            line += f"; logits {features.logits.shape[1]}"
        if extraction.taken_over:
            line += f"; {extraction.taken_over} were taken over"
        if extraction.resumed_rows:
            line += f"; {extraction.resumed_rows} were already cached"
        if (share := known_accuracy(features)) is not None:
            line += f"; accuracy {share:.4f}"
        click.echo(line)
    return done[0].features.name
