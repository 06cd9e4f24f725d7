"""A trained network on disk: weights in safetensors, how it was made in JSON, and a card. No pickle."""

from __future__ import annotations

__all__ = [
    "RECORD", "Extractor", "Facts", "held_out_figures", "is_extractor", "load_extractor", "read_record",
    "save_extractor",
]  # fmt: skip

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from featood.errors import CacheCorrupt, Mismatch, UsageError
from featood.extractors.inputs import InputTransform
from featood.extractors.models import Model, create_model
from featood.extractors.models.network import TrainableNet
from featood.extractors.tokens import TokenTransform
from featood.extractors.trainer.architectures import Architecture
from featood.extractors.trainer.networks import drop_parts, trainable_net
from featood.extractors.trainer.pictures import png_of
from featood.extractors.trainer.trainer import Trained
from featood.extractors.transform import Transform
from featood.extractors.words import WordTokenizer
from featood.files import atomic_write, rename, size_of
from featood.records import check_record, is_newer, whole
from featood.sealed import read_json, write_json

SCHEMA = 1
RECORD = "extractor.json"
WEIGHTS, LAST = "model.safetensors", "last.safetensors"
VOCABULARY = "vocabulary.json"
NEXT = ".next"
"""Suffix of files that belong to the record, or to the next one, and have not replaced their predecessor yet."""
AGAIN = "train it again"
KINDS = {
    "schema": whole(1),
    "model": str,
    "options": dict,
    "architecture": str,
    "architecture_options": dict,
    "classes": [str],
    "outputs": whole(1),
    "transform": dict,
    "training": dict,
    "data": {str: object},
    "summary": dict,
    "versions": {str: str},
    "sha256_of": {str: str},
}


class Facts(NamedTuple):
    """What a folder records besides the weights."""

    architecture: Architecture
    model: Model
    classes: tuple[str, ...]
    """Names of the classes."""
    transform: InputTransform
    training: Mapping[str, Any]
    """Options of the training."""
    data: Mapping[str, Any]
    """Dataset, split and digest of the images and of the outliers."""


class Extractor(NamedTuple):
    """A trained network, read from its folder."""

    net: TrainableNet
    facts: Facts
    summary: Mapping[str, Any]


def is_extractor(path: str | Path) -> bool:
    """Whether a folder contains a trained network."""
    return size_of(Path(path) / RECORD) is not None


def save_extractor(trained: Trained, facts: Facts, folder: Path) -> None:
    """Write a folder, in place of a network in it as a whole: until `RECORD` is replaced, the folder is the old one.

    All other files are complete beside the old ones by then, and are renamed afterwards.
    """
    from safetensors.torch import save

    from featood.cache.manifest import library_versions

    contents = {
        "history.csv": _history(trained.history).encode(),
        "README.md": _card(facts, trained.summary).encode(),
    }
    contents |= {f"{what}.png": png_of(picture) for what, picture in trained.pictures.items()}
    if isinstance(facts.transform, TokenTransform) and isinstance(facts.transform.tokenizer, WordTokenizer):
        words = list(facts.transform.tokenizer.vocabulary)
        contents[VOCABULARY] = json.dumps(words, ensure_ascii=False, indent=0).encode()
    drop_parts(trained.net, facts.model.transient)
    for name, tensors in ((WEIGHTS, trained.net.named_tensors()), (LAST, trained.last)):
        contents[name] = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    digests = {name: hashlib.sha256(contents[name]).hexdigest() for name in (WEIGHTS, LAST)}
    for name, content in contents.items():
        atomic_write(folder / f"{name}{NEXT}", content)
    write_json(
        folder / RECORD,
        {
            "schema": SCHEMA,
            "model": facts.model.name,
            "options": dataclasses.asdict(facts.model),
            "architecture": facts.architecture.name,
            "architecture_options": dict(facts.architecture.options),
            "classes": list(facts.classes),
            "outputs": trained.net.outputs,
            "transform": facts.transform.as_json(),
            "training": dict(facts.training),
            "data": dict(facts.data),
            "summary": dict(trained.summary),
            "versions": library_versions(),
            "sha256_of": digests,
        },
    )
    for name in contents:
        rename(folder / f"{name}{NEXT}", name)


def read_record(folder: str | Path) -> dict[str, Any]:
    """Read the record of a folder: data, options and results of the training.

    Raises
    ------
    CacheCorrupt
        If it is damaged.
    Mismatch
        If it was written by a newer version of featood.
    """
    path = Path(folder) / RECORD
    body = read_json(path, AGAIN)
    if is_newer(body.get("schema"), SCHEMA):
        raise Mismatch(f"{folder} was written by a newer version of featood; upgrade featood to read it")
    return check_record(body, KINDS, path, AGAIN)


def load_extractor(folder: str | Path, last: bool = False) -> Extractor:
    """Read a folder written by `save_extractor`; no code in it is run.

    Parameters
    ----------
    folder : path
        The folder.
    last : bool
        Whether to load the weights after the last update, instead of those kept.

    Raises
    ------
    CacheCorrupt
        If a file is damaged.
    Mismatch
        If it was written by a version of featood with other models or options.
    """
    folder = Path(folder)
    body = read_record(folder)
    architecture = Architecture(body["architecture"], body["architecture_options"])
    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in body["options"].items()
    }
    try:
        model, transform = create_model(body["model"], options), _transform(body["transform"], folder)
        classes = body["summary"].get("classes", body["outputs"])
        net = trainable_net(model, architecture.make, classes, transform, outputs=body["outputs"])
    except UsageError as error:
        raise Mismatch(f"{folder} was written by a version of featood with other options: {error}") from None
    if not last:
        drop_parts(net, model.transient)
    name = LAST if last else WEIGHTS
    net.load_named(_tensors(folder / name, body["sha256_of"].get(name, "")))
    facts = Facts(architecture, model, tuple(body["classes"]), transform, body["training"], body["data"])
    return Extractor(net.eval(), facts, body["summary"])


def _transform(body: Mapping[str, Any], folder: Path) -> InputTransform:
    """Restore the transform of a network; that of texts has its words in a file."""
    if "kind" not in body:
        return Transform.from_json(body)
    path = folder / VOCABULARY
    for one in (path, path.with_name(f"{path.name}{NEXT}")):
        with contextlib.suppress(OSError, ValueError, Mismatch):
            words = WordTokenizer.from_json(json.loads(one.read_bytes()), body.get("tokenizer_sha256", ""))
            return TokenTransform(words, body["max_length"])
    raise CacheCorrupt(f"{path} is missing, or does not match its checksum; {AGAIN}")


def _tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    found = [
        one.read_bytes() for one in (path, path.with_name(f"{path.name}{NEXT}")) if size_of(one) is not None
    ]
    if not found:
        raise CacheCorrupt(f"{path} is missing; {AGAIN}")
    content = next((one for one in found if hashlib.sha256(one).hexdigest() == sha256), None)
    if content is None:
        raise CacheCorrupt(f"{path} does not match its checksum; {AGAIN}")
    try:
        return load(content)
    except SafetensorError as error:
        raise CacheCorrupt(f"{path} cannot be decoded ({error}); {AGAIN}") from None


def held_out_figures(summary: Mapping[str, Any]) -> list[str]:
    """Return the results of a training on the held-out rows as phrases, such as ``accuracy 91.20 % on ...``."""
    before = "validation_"
    names = {key: key.removeprefix(before).replace("_", " ") for key in summary if key.startswith(before)}
    return [
        f"{name} {f'{100 * summary[key]:.2f} %' if name == 'accuracy' else f'{summary[key]:.4g}'} on held-out rows"
        for key, name in names.items()
    ]


def _history(history: Mapping[str, list[float]]) -> str:
    """Return the losses as CSV, one row per update."""
    # a checkpoint does not keep the order of the names
    names = sorted(history.keys() - {"validation"}, key=lambda name: (name != "loss", name))
    losses = {name: history[name] for name in names}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *losses])
    for step, values in enumerate(zip(*losses.values(), strict=True)):
        writer.writerow([step, *(repr(value) for value in values)])
    return text.getvalue()


def _card(facts: Facts, summary: Mapping[str, Any]) -> str:
    card = facts.model.card
    held = "".join(f" Result: {figure}." for figure in held_out_figures(summary))
    if summary.get("diverged"):
        held += f" The training diverged; these are the weights after {summary['steps']} updates."
    options = {
        **dataclasses.asdict(facts.model),
        **{f"--arch-option {key}": value for key, value in facts.architecture.options.items()},
        **{f"--{key}": value for key, value in facts.training.items()},
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in options.items())
    text = (
        f"{facts.architecture.name} trained on {facts.data['dataset']} ({len(facts.classes)} classes) by {card.title}: "
        f"{card.paper}, {card.year}. {card.url}{held}"
    )
    return f"""# {facts.architecture.name}, {card.name}

{textwrap.fill(text, 100)}

Inputs: {facts.transform}.

| option | value |
| --- | --- |
{rows}

    featood extract --backbone FOLDER --dataset {facts.data["dataset"]}
"""
