"""``featood embed-texts``."""

from __future__ import annotations

__all__ = ["embed_texts"]

import json
from pathlib import Path

import rich_click as click

from featood.cli.common import Place, backbone_option, cache_option, dataset_option
from featood.reporter import print_line


@click.command("embed-texts")
@click.argument("file", type=Place(dir_okay=False))
@click.option(
    "--model",
    required=True,
    help="Text encoder: open_clip:ARCHITECTURE, or python:MODULE:CALLABLE, which is run.",
)
@click.option(
    "--weights", default="", help="Weights of open_clip: a tag of published ones, a file, or random."
)
@click.option(
    "--names", type=click.Path(exists=True, dir_okay=False),
    help="Text file with one word or class name per line (default: the class names of the dataset in the cache).",
)  # fmt: skip
@click.option(
    "--template", "templates", multiple=True, default=("a photo of a {}",), show_default=True,
    help="Prompt with {} for the word; may be repeated: the embeddings are averaged.",
)  # fmt: skip
@click.option(
    "--phrase", "phrases", multiple=True,
    help="Phrase with {} for the word, such as '{} creature'; may be repeated: each word is put into one at random.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of phrases.")
@click.option(
    "--pairs", is_flag=True,
    help="Embed 'CLASS and WORD' for each class of the dataset in the cache and each word of --names, for negrefine.",
)  # fmt: skip
@click.option(
    "--scale", type=click.FloatRange(0, min_open=True),
    help="Length of the embeddings, the factor of the cosines in logits (default: that of the model, or 100).",
)  # fmt: skip
@dataset_option
@backbone_option
@cache_option
def embed_texts(
    file: str, model: str, weights: str, names: str | None, templates: tuple[str, ...], phrases: tuple[str, ...],
    seed: int, pairs: bool, scale: float | None, dataset: str, backbone: str, cache_root: str,
) -> None:  # fmt: skip
    """Write text embeddings of class names, or of other words, to FILE (.safetensors).

    The file has the array 'weight' [C, D], for cache add-classifier --classifier (class names, in the order of their
    numbers) and for fit neglabel --outliers (many words). With --pairs, the texts of the first class come first.

    Example: featood embed-texts words.safetensors --model open_clip:ViT-B-32-quickgelu --weights openai --backbone clip

    Example: featood embed-texts nouns.safetensors --model python:encoder.py:encode --names nouns.txt
    """
    from safetensors.numpy import save

    from featood.errors import UsageError
    from featood.extractors import texts
    from featood.extractors.backbones import RANDOM
    from featood.files import atomic_write

    if not file.endswith(".safetensors"):
        raise UsageError(f"the name of FILE must end in .safetensors, not '{Path(file).name}'")
    if pairs and not names:
        raise UsageError("--pairs joins the class names with words; name a file of words by --names")
    if names:
        if (dataset or backbone) and not pairs:
            raise UsageError("--names gives the words; omit --dataset and --backbone")
        words = _lines(names)
    else:
        words = _class_names(cache_root, backbone, dataset)
    if phrases:
        words = texts.in_phrases(words, phrases, seed)
    if pairs:
        words = [
            f"{name} and {word}" for name in _class_names(cache_root, backbone, dataset) for word in words
        ]
    encoder = texts.text_encoder(model, weights)
    if weights == RANDOM:
        print_line("warning: the weights are random, so the embeddings are meaningless")
    length = encoder.scale if scale is None else scale
    print_line(
        f"embedding {len(words)} words, the first as '{templates[0].replace('{}', words[0])}', times {length:g}"
    )
    embeddings = texts.embed_texts(encoder, words, templates)
    facts = {"model": encoder.name, "templates": json.dumps(templates), "words": json.dumps(words)}
    atomic_write(file, save({"weight": (length * embeddings).astype("f4")}, facts))
    click.echo(f"{file}: {len(words)} embeddings of {embeddings.shape[1]} dimensions")


def _class_names(root: str, backbone: str, dataset: str) -> list[str]:
    """Names of the classes of a set in the cache."""
    from featood.cache import open_cache
    from featood.errors import DataError
    from featood.extractors.texts import as_words
    from featood.pipeline.selection import select

    selection = select(open_cache(root), backbone, dataset)
    features = selection.open(next(iter(selection.entries)))
    if not features.classes:
        raise DataError(f"{features.name} has no class names; give them, one per line, by --names FILE")
    print_line(f"class names of {features.name}")
    return as_words(features.classes)


def _lines(file: str) -> list[str]:
    """Words of a text file, without empty lines; repetitions remain, as classes are numbered by line."""
    from featood.data.texts.files import decoded, lines_of
    from featood.errors import DataError

    text, notes = decoded(Path(file))
    for note in notes:
        print_line(note)
    lines = lines_of(text)
    words = [line for line in lines if line]
    if not words:
        raise DataError(f"{file} has no words")
    if left := len(lines) - len(words):
        print_line(f"{file}: {left} empty lines are left out")
    return words
