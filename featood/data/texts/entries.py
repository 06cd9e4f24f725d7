"""Registered sets of texts."""

from __future__ import annotations

__all__ = ["TEXT_ENTRIES"]

from collections.abc import Mapping
from functools import partial
from typing import Any

from featood.data.entry import DatasetEntry
from featood.data.texts.files import split_file
from featood.data.texts.published import named_folders, named_lines

_TRAIN_TEST = ("train", "test")
_EXPOSURE = "https://github.com/hendrycks/outlier-exposure/tree/master/NLP_classification"
_REUTERS = "https://github.com/hendrycks/error-detection/tree/master/NLP/Categorization/data"
_WIKITEXT = "https://wikitext.smerity.com"
_RAW = "https://raw.githubusercontent.com/hendrycks/outlier-exposure/master/NLP_classification"
_REUTERS_FILES = "https://raw.githubusercontent.com/hendrycks/error-detection/master/NLP/Categorization/data"
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
    name: str, title: str, source: str, files: Mapping[str, tuple[str, ...]],
    downloads: tuple[tuple[str, str, str], ...] = (), **details: Any,
) -> DatasetEntry:  # fmt: skip
    classes = details.get("classes", ())
    layouts = (*details.pop("layouts", ()), partial(named_lines, files=files, classes=classes))
    return _texts(
        name, title, source, splits=tuple(files), layouts=layouts, files=downloads, untried=True, **details
    )


def _reuters(number: int, classes: tuple[str, ...], checksums: tuple[str, str]) -> DatasetEntry:
    short = f"r{number}"
    endings = ("stemmed", "all-terms", "no-stop", "no-short")
    files = {
        split: (*(f"{short}-{split}-{ending}.txt" for ending in endings), f"{short}-{split}.txt")
        for split in _TRAIN_TEST
    }
    downloads = tuple(
        (f"{_REUTERS_FILES}/{short}-{split}.txt", f"reuters{number}/{short}-{split}-stemmed.txt", checksum)
        for split, checksum in zip(_TRAIN_TEST, checksums, strict=True)
    )
    title = f"Reuters-{number}"
    return _lines(
        f"reuters{number}", title, _REUTERS, files, classes=classes, folders=(short,), downloads=downloads
    )


def _wikitext(number: int, checksum: str) -> DatasetEntry:
    name = f"wikitext-{number}"
    downloads = ((f"{_WIKITEXT}/{name}-v1.zip", f"{name}.zip", checksum),)
    return _lines(name, f"WikiText-{number}", _WIKITEXT, _WIKI_FILES, downloads=downloads)


def _debian(name: str, title: str, splits: tuple[str, ...], classes: tuple[str, ...] = ()) -> DatasetEntry:
    source = "https://packages.debian.org (descriptions, as <split>.csv with the columns text and section)"
    layout = partial(split_file, stem=name)
    return _texts(name, title, source, classes, splits=splits, folders=("text",), layouts=(layout,))


TEXT_ENTRIES = (
    _lines(
        "newsgroups20", "20 Newsgroups", "http://qwone.com/~jason/20Newsgroups",
        {split: (f"20ng-{split}-no-short.txt", f"20ng-{split}-all-terms.txt") for split in _TRAIN_TEST},
        downloads=tuple(
            (f"{_RAW}/20newsgroups/orig_data/{name}", f"newsgroups20/{name}", checksum)
            for name, checksum in (
                ("20ng-train-no-short.txt", "md5:4444a088dda968b44f7a6dec756698b3"),
                ("20ng-test-no-short.txt", "md5:978c4d8fd3bde6a12a1e8312f0031815"),
            )
        ),
        classes=NEWSGROUPS, folders=("20newsgroups", "20news-bydate"),
        layouts=(partial(named_folders, folders={split: f"20news-bydate-{split}" for split in _TRAIN_TEST}),),
    ),
    _reuters(8, REUTERS8, ("md5:c979a285f1c132c5be8d554b385f2c49", "md5:7a54d01272de570d13d0c58cf8aa3c8d")),
    _reuters(52, REUTERS52, ("md5:6b1d32bd95e95c1c26cd592d3bdb8c0e", "md5:8a82cdf79e111df1bb23a9bbc48f6d25")),
    _lines(
        "multi30k", "Multi30k", _EXPOSURE,
        {"train": ("m30k-train.txt", "train.txt"), "test": ("m30k-test.txt", "val.txt")},
        downloads=(
            (f"{_RAW}/multi30k/train.txt", "multi30k/m30k-train.txt", "md5:094c68794632983239bf1bc1b37282a8"),
            (f"{_RAW}/multi30k/val.txt", "multi30k/m30k-test.txt", "md5:8d407ae05dbc61e3e61ffd3a3f9d39fb"),
        ),
    ),
    _lines(
        "wmt16", "WMT16 sentences", _EXPOSURE, {"test": ("wmt16_sentences",)},
        downloads=(
            (f"{_RAW}/wmt16/wmt16_sentences", "wmt16/wmt16_sentences", "md5:6dff65f45ac112c150b8a2cc30509b03"),
        ),
    ),
    _wikitext(2, "md5:542ccefacc6c27f945fb54453812b3cd"),
    _wikitext(103, "md5:9ddaacaf6af0710eda8c456decff7832"),
    _debian("debian-sections", "Debian sections", _TRAIN_TEST, DEBIAN),
    _debian("debian-near", "Debian sections, four others", ("test",)),
    _debian("debian-far", "Debian sections, two programming languages", ("test",)),
)  # fmt: skip
