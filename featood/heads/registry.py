"""Registry of heads, filled by a decorator; commands and documentation are generated from its entries."""

from __future__ import annotations

__all__ = [
    "Card",
    "as_head",
    "broken_plugins",
    "create_head",
    "head_class",
    "head_entry",
    "head_modules",
    "heads_by_family",
    "list_heads",
    "option",
    "register",
    "register_file",
    "registered",
]

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featood.errors import UsageError
from featood.heads.index import NEEDS, Card, Entry, describe, read_index
from featood.names import check_name
from featood.options import inherit_options, option

if TYPE_CHECKING:
    from featood.heads.base.head import Head

PLUGINS = "featood.heads"
PYOD = "pyod:"
"""Beginning of the names of PyOD's detectors, which are heads but not listed by :func:`list_heads`."""
OUTSIDE = "outside"
"""Family of the heads defined outside featood."""
NO_FAMILIES = ("base", "artefacts")
"""Packages of `featood.heads` that contain no heads."""

_REGISTRY: dict[str, type[Head]] = {}
_BROKEN: dict[str, str] = {}


@typing.dataclass_transform(kw_only_default=True, frozen_default=False)
def register(
    name: str,
    *,
    title: str,
    paper: str,
    year: int,
    url: str = "",
    needs: tuple[str, ...],
    uses: tuple[str, ...] = (),
    learns: bool = True,
    caution: str = "",
) -> Callable[[type], Any]:
    """Register a head class under its command-line name and make it a dataclass with its options as fields.

    Sections on the options, the paper and an example are added to its docstring.
    """
    if unknown := {*needs, *uses} - set(NEEDS):
        raise ValueError(f"{name}: unknown needs {unknown}")
    check_name(name, "a head")

    def decorate(cls: type) -> Any:
        if (owner := _owner(name, cls)) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the name {name} is taken by {'.'.join(owner)}")
        card = {"title": title, "paper": paper, "year": year, "url": url, "needs": needs}
        _REGISTRY[name] = as_head(cls, name, **card, uses=uses, learns=learns, caution=caution)
        return _REGISTRY[name]

    return decorate


def as_head(cls: type, name: str, **card: Any) -> Any:
    """Make a class a head: a dataclass with its options as fields, a card, and a full docstring."""
    from featood.heads.base.docstring import full_docstring

    described = inspect.cleandoc(cls.__doc__ or "")
    head: Any = dataclasses.dataclass(kw_only=True, eq=False)(inherit_options(cls))
    head.card = Card(
        **{"learns": True, **card}, name=name, summary=described.split("\n")[0], scores=_scores(head)
    )
    head.described = described
    head.__doc__ = full_docstring(head)
    return head


def _owner(name: str, head: type) -> tuple[str, str]:
    """Return module and name of the class that owns a head's name: `head` itself, unless the name is taken.

    A head defined elsewhere cannot take the name of a head of featood, even if that is not imported yet.
    """
    if name in _REGISTRY:
        head = _REGISTRY[name]
    elif not head.__module__.startswith("featood.heads.") and name in (known := read_index()):
        return known[name].module, known[name].qualname
    return head.__module__, head.__qualname__


def _scores(head: Any) -> tuple[str, ...]:
    """Return the names of a head's scores, which are the choices of its option ``which``."""
    for field in dataclasses.fields(head):
        if field.name == "which":
            return tuple(dict.fromkeys((field.default, *field.metadata["choices"])))
    return ()


def list_heads() -> dict[str, Card]:
    """Return the cards of all heads by name, including plug-ins of the entry point group ``featood.heads``.

    Heads of featood itself are not imported, except those in modules that the index does not list.
    """
    known = read_index()
    for module in set(head_modules().values()) - {entry.module for entry in known.values()}:
        importlib.import_module(module)
    _load_plugins()
    cards = {name: entry.card for name, entry in known.items() if _there(entry)}
    cards |= {name: cls.card for name, cls in _REGISTRY.items()}
    return {name: cards[name] for name in sorted(cards)}


def heads_by_family() -> dict[str, list[Card]]:
    """Return the cards by family, which is the package of the head; plug-ins come last, as ``outside``."""
    families: dict[str, list[Card]] = {}
    for name, card in list_heads().items():
        entry = head_entry(name)
        family = entry.module.split(".")[-2] if _there(entry) else OUTSIDE
        families.setdefault(family.replace("_", " "), []).append(card)
    return dict(sorted(families.items(), key=lambda item: (item[0] == OUTSIDE, item[0])))


def registered() -> Mapping[str, type[Head]]:
    """Return the classes that have been registered so far, by name."""
    return dict(_REGISTRY)


def head_entry(name: str) -> Entry:
    """Return the entry of a head: card, options, presets; its module is not imported if the index lists it.

    Raises
    ------
    UsageError
        When there is none of that name; the text suggests the nearest.
    """
    entry = read_index().get(name)
    return (
        entry if entry is not None and name not in _REGISTRY and _there(entry) else describe(head_class(name))
    )


def head_class(name: str) -> type[Head]:
    """Return the class of a head, importing no other head's module where that can be avoided.

    Raises
    ------
    UsageError
        When there is none of that name; the text suggests the nearest.
    MissingPackage
        When it is a detector of PyOD, which is not installed.
    """
    if name.startswith(PYOD):
        from featood.heads.outliers._pyod import detector_head

        return detector_head(name)
    if name not in _REGISTRY:
        entry = read_index().get(name)
        module = entry.module if entry is not None and _there(entry) else None
        module = module or head_modules().get(name.replace("-", "_"))
        if module is not None:
            importlib.import_module(module)
    if name not in _REGISTRY:
        names = list_heads()
        if name in names and name not in _REGISTRY:  # in a module with a different name
            importlib.import_module(read_index()[name].module)
        if name not in _REGISTRY:
            import difflib

            near = difflib.get_close_matches(name, names, 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "see featood heads"
            raise UsageError(f"there is no head '{name}'; {hint}")
    return _REGISTRY[name]


def create_head(name: str, preset: str | None = None, **options: Any) -> Head:
    """Create an unfitted head by name.

    Parameters
    ----------
    name : str
        As listed by :func:`list_heads`.
    preset : str, optional
        Published settings to start from, if the head has presets (``cifar10``, ``cifar100``, ``imagenet``).
    **options
        The head's options; they override the preset. A number of epochs replaces a number of updates.

    Raises
    ------
    UsageError
        When the name, the preset or an option is unknown, or a value is out of bounds.
    """
    cls = head_class(name)
    if preset is not None and preset not in cls.presets:
        have = ", ".join(cls.presets) or "none"
        raise UsageError(f"{name} has no preset '{preset}' (it has: {have})")
    known = [field.name for field in dataclasses.fields(cls)]
    if "epochs" in options and "updates" in known:  # which would override the epochs
        options = {"updates": 0, **options}
    options = {**({} if preset is None else cls.presets[preset]), **options}
    for key in options:
        if key not in known:
            raise UsageError(f"{name} has no option '{key}' (it has: {', '.join(known) or 'none'})")
    return cls(**options)


def register_file(path: str | Path) -> list[str]:
    """Run a Python file that registers heads, and return their names.

    Only for files that the user names: whatever is in the file runs.

    Raises
    ------
    UsageError
        If the file cannot be run, or registers no head.
    """
    place = Path(path).resolve()
    module = f"featood_head_file_{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
    if module not in sys.modules:
        before = dict(_REGISTRY)
        spec = importlib.util.spec_from_file_location(module, place)
        if spec is None or spec.loader is None:
            raise UsageError(f"{path} is not a Python file; its name must end in .py")
        sys.modules[module] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[module])
        except Exception as error:
            del sys.modules[module]
            _REGISTRY.clear()
            _REGISTRY.update(before)
            raise UsageError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    names = [name for name, cls in _REGISTRY.items() if cls.__module__ == module]
    if not names:
        raise UsageError(f"{path} registers no head; decorate its class with featood.heads.register")
    return names


def broken_plugins() -> Mapping[str, str]:
    """Return the plug-ins that could not be imported, with the reasons."""
    return dict(_BROKEN)


def _load_plugins() -> None:
    for entry in importlib.metadata.entry_points(group=PLUGINS):
        before = dict(_REGISTRY)
        try:
            _load_plugin(entry)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # third-party code: no exception of it may stop featood
            _REGISTRY.clear()
            _REGISTRY.update(before)
            _BROKEN[entry.name] = textwrap.shorten(
                f"{type(error).__name__}: {error}", 200, placeholder=" ..."
            )
        else:
            _BROKEN.pop(entry.name, None)


def _load_plugin(entry: importlib.metadata.EntryPoint) -> None:
    """Import the target of an entry point: a module that registers heads, or a head class."""
    loaded = entry.load()
    if isinstance(loaded, types.ModuleType):
        return
    card = vars(loaded).get("card") if isinstance(loaded, type) else None
    if not isinstance(card, Card) or _REGISTRY.get(card.name) is not loaded:
        raise TypeError(
            f"{entry.value} is not a registered head: decorate its class with featood.heads.register"
        )


def _there(entry: Entry) -> bool:
    return entry.module in head_modules().values()


@functools.cache
def head_modules() -> Mapping[str, str]:
    """Map the last component of each head module's name to the full name, without importing it."""
    return {
        path.stem: f"featood.heads.{path.parent.name}.{path.stem}"
        for path in sorted(Path(__file__).parent.glob("*/[!_]*.py"))
        if path.parent.name not in NO_FAMILIES
    }
