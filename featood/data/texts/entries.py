"""Registered sets of texts."""

from __future__ import annotations

__all__ = ["TEXT_ENTRIES"]

from collections.abc import Mapping
from functools import partial
from typing import Any

from featood.data.images.entry import DatasetEntry
from featood.data.texts.files import split_file
from featood.data.texts.published import named_folders, named_lines

_TRAIN_TEST = ("train", "test")
_EXPOSURE = "https://github.com/hendrycks/outlier-exposure/tree/master/NLP_classification"
_REUTERS = "https://github.com/hendrycks/error-detection/tree/master/NLP/Categorization/data"
_WIKITEXT = "https://wikitext.smerity.com"
_WIKI_FILES = {"train": ("wiki.train.tokens",), "val": ("wiki.valid.tokens",), "test": ("wiki.test.tokens",)}

NEWSGROUPS = (
    "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", "comp.sys.mac.hardware",
    "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles", "rec.sport.baseball", "rec.sport.hockey",
    "sci.crypt", "sci.electronics", "sci.med", "sci.space", "soc.religion.christian", "talk.politics.guns",
    "talk.politics.mideast", "talk.politics.misc", "talk.religion.misc",
)  # fmt: skip
REUTERS8 = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
REUTERS52 = (
    "acq", "alum", "bop", "carcass", "cocoa", "coffee", "copper", "cotton", "cpi", "cpu", "crude", "dlr", "earn",
    "fuel", "gas", "gnp", "gold", "grain", "heat", "housing", "income", "instal-debt", "interest", "ipi",
    "iron-steel", "jet", "jobs", "lead", "lei", "livestock", "lumber", "meal-feed", "money-fx", "money-supply",
    "nat-gas", "nickel", "orange", "pet-chem", "platinum", "potato", "reserves", "retail", "rubber", "ship",
    "strategic-metal", "sugar", "tea", "tin", "trade", "veg-oil", "wpi", "zinc",
)  # fmt: skip
DEBIAN = ("admin", "fonts", "games", "graphics", "mail", "math", "net", "science", "sound", "text")


def _texts(name: str, title: str, source: str, classes: tuple[str, ...] = (), **details: Any) -> DatasetEntry:
    return DatasetEntry(
        name=name,
        title=title,
        source=source,
        num_classes=len(classes),
        classes=classes,
        kind="texts",
        **details,
    )


def _lines(
    name: str, title: str, source: str, files: Mapping[str, tuple[str, ...]], **details: Any
) -> DatasetEntry:
    classes = details.get("classes", ())
    layouts = (*details.pop("layouts", ()), partial(named_lines, files=files, classes=classes))
    return _texts(name, title, source, splits=tuple(files), layouts=layouts, untried=True, **details)


def _reuters(number: int, classes: tuple[str, ...]) -> DatasetEntry:
    short = f"r{number}"
    endings = ("stemmed", "all-terms", "no-stop", "no-short")
    files = {
        split: (*(f"{short}-{split}-{ending}.txt" for ending in endings), f"{short}-{split}.txt")
        for split in _TRAIN_TEST
    }
    return _lines(f"reuters{number}", f"Reuters-{number}", _REUTERS, files, classes=classes, folders=(short,))


def _debian(name: str, title: str, splits: tuple[str, ...], classes: tuple[str, ...] = ()) -> DatasetEntry:
    source = "https://packages.debian.org (descriptions, as <split>.csv with the columns text and section)"
    layout = partial(split_file, stem=name)
    return _texts(name, title, source, classes, splits=splits, folders=("text",), layouts=(layout,))


TEXT_ENTRIES = (
    _lines(
        "newsgroups20", "20 Newsgroups", "http://qwone.com/~jason/20Newsgroups",
        {split: (f"20ng-{split}-no-short.txt", f"20ng-{split}-all-terms.txt") for split in _TRAIN_TEST},
        classes=NEWSGROUPS, folders=("20newsgroups", "20news-bydate"),
        layouts=(partial(named_folders, folders={split: f"20news-bydate-{split}" for split in _TRAIN_TEST}),),
    ),
    _reuters(8, REUTERS8),
    _reuters(52, REUTERS52),
    _lines(
        "multi30k", "Multi30k", _EXPOSURE,
        {"train": ("m30k-train.txt", "train.txt"), "test": ("m30k-test.txt", "val.txt")},
    ),
    _lines("wmt16", "WMT16 sentences", _EXPOSURE, {"test": ("wmt16_sentences",)}),
    _lines("wikitext-2", "WikiText-2", _WIKITEXT, _WIKI_FILES),
    _lines("wikitext-103", "WikiText-103", _WIKITEXT, _WIKI_FILES),
    _debian("debian-sections", "Debian sections", _TRAIN_TEST, DEBIAN),
    _debian("debian-near", "Debian sections, four others", ("test",)),
    _debian("debian-far", "Debian sections, two programming languages", ("test",)),
)  # fmt: skip
