"""Checks of options, saving, loading, and the inputs that a fitted head accepts."""

from __future__ import annotations

__all__: list[str] = []

import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featood.errors import FeatoodError, Mismatch, NotFitted, UsageError
from featood.heads.artefacts.artefact import load_head
from featood.heads.registry import create_head
from featood.testing.check import Subject, promise, refuses


@promise("the card and the options are described")
def described(subject: Subject) -> None:
    card = subject.card
    for text in ("name", "title", "paper", "summary"):
        assert getattr(card, text), f"the card has no {text}"
    assert card.needs and 1900 < card.year < 2100, "the card names what the head needs and the year"
    for field in dataclasses.fields(subject.kind):
        assert field.metadata.get("help"), f"option {field.name} has no help"
    for preset, options in subject.kind.presets.items():
        assert create_head(card.name, preset).name == card.name, f"preset {preset}: {options}"


@promise("options out of bounds are refused")
def option_bounds(subject: Subject) -> None:
    name = subject.card.name
    for field in dataclasses.fields(subject.kind):
        low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
        wrong = [*([] if low is None else [low - 1]), *([] if high is None else [high + 1])]
        if wrong:
            wrong += [float("nan"), "many"]
        for value in [*wrong, *(["no such choice"] if choices else [])]:
            create = functools.partial(create_head, name, **{field.name: value})
            refuses(UsageError, f"{field.name} = {value!r}", create, text=field.name)
    create = functools.partial(create_head, name, no_such_option=1)
    refuses(UsageError, "an unknown option", create, text="no_such_option")


@promise("an unfitted head raises NotFitted")
def unfitted(subject: Subject) -> None:
    if not subject.card.learns:
        return
    refuses(NotFitted, "scoring before the fit", subject.create().score, subject.test, text="fit")
    with tempfile.TemporaryDirectory() as folder:
        refuses(NotFitted, "saving before the fit", subject.create().save, folder, text="fit")


@promise("scores of a saved head are bit-identical")
def save_and_load(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = subject.fitted.save(Path(folder) / "head")
        files = sorted(file.name for file in path.iterdir())
        loaded = load_head(path)
    assert files == ["README.md", "head.json", "head.safetensors"], f"the artefact contains {files}"
    assert type(loaded) is subject.kind, f"a {type(loaded).__name__} was loaded"
    assert loaded.options == subject.fitted.options, f"options became {loaded.options}"
    assert loaded.record == subject.fitted.record, "the record of the fit changed"
    assert np.array_equal(loaded.score(subject.test), subject.scores), "scores differ"


@promise("a damaged artefact is refused")
def damaged_artefact(subject: Subject) -> None:
    def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        def damage(path: Path) -> None:
            (path / name).write_bytes(change((path / name).read_bytes()))

        return damage

    def flip(content: bytes) -> bytes:
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]

    damages: dict[str, Callable[[Path], None]] = {
        "tensors cut in half": rewrite("head.safetensors", lambda content: content[: len(content) // 2]),
        "tensors without their last byte": rewrite("head.safetensors", lambda content: content[:-1]),
        "empty tensors": rewrite("head.safetensors", lambda content: b""),
        "trailing bytes": rewrite("head.safetensors", lambda content: content + b"\0"),
        "a flipped bit": rewrite("head.safetensors", flip),
        "no tensors": lambda path: (path / "head.safetensors").unlink(),
        "no head.json": lambda path: (path / "head.json").unlink(),
        "head.json cut in half": rewrite("head.json", lambda content: content[: len(content) // 2]),
        "head.json that is a list": rewrite("head.json", lambda content: b"[]"),
        "head.json nested too deeply": rewrite("head.json", lambda content: b"[" * 100_000),
        "another head's name": rewrite(
            "head.json", lambda content: content.replace(b'"head": "', b'"head": "x')
        ),
        "a newer schema": rewrite(
            "head.json", lambda content: content.replace(b'"schema": ', b'"schema": 9')
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        whole = subject.fitted.save(Path(folder) / "whole")
        for what, damage in damages.items():
            path = Path(folder) / "damaged"
            shutil.copytree(whole, path)
            damage(path)
            refuses(FeatoodError, what, load_head, path)
            shutil.rmtree(path)


@promise("features of another backbone are refused, unless forced")
def other_backbone(subject: Subject) -> None:
    if not subject.card.learns:
        return
    other = dataclasses.replace(subject.test, fingerprint="f" * 64)
    refuses(Mismatch, "another fingerprint", subject.fitted.score, other, text="--force")
    forced = subject.fitted.score(other, force=True)
    assert np.array_equal(forced, subject.scores), "scores differ when forced"


@promise("features of another size are refused")
def other_size(subject: Subject) -> None:
    if not subject.card.learns:
        return
    test = subject.test
    wider = {name: np.pad(np.asarray(values), ((0, 0), (0, 1))) for name, values in test.features.items()}
    logits = np.pad(np.asarray(test.logits), ((0, 0), (0, 1)))
    other = dataclasses.replace(test, features=wider, logits=logits, classifier=None)
    refuses(Mismatch, "one more column", subject.fitted.score, other)
