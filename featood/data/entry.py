"""The facts about a registered set."""

from __future__ import annotations

__all__ = ["DatasetEntry"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from featood.data.input_set import InputSet
from featood.data.layouts import Layout, Loader


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A registered set of images, texts or recordings.

    Attributes
    ----------
    name, title : str
        The name on the command line, and the printed one.
    source : str
        Origin of the files.
    kind : str
        ``images``, ``texts`` or ``recordings``; empty for a set that is not registered, whose files decide.
    num_classes : int
        Number of classes; 0 if irrelevant.
    shape : tuple of int, optional
        Height, width and channels; None if the images differ.
    splits : tuple of str
        The official splits.
    folders : tuple of str
        Further folders of the files besides ``DIR/<name>/``, relative to DIR or to DIR/<name>.
    layouts : tuple of Layout
        The set's own layouts, tried before the general ones.
    lists : mapping of str to str
        Its image lists of OpenOOD or OpenMIBOOD: for each folder below ``DIR/benchmark_imglist/``, the name NAME in
        ``<split>_NAME.txt``. The first is read if the set is not there in another form, and that of a folder by
        ``SET:list=FOLDER``.
    generate : callable, optional
        Function of a split, the sets of `made_of`, and options that makes a set without files of its own.
    made_of : tuple of str
        Registered sets of which the set is made.
    download : tuple, optional
        Class of ``torchvision.datasets``, and the keyword arguments of each call that downloads the set.
    mean, std : tuple of float, optional
        Normalisation for a network trained on the set, for pixels in [0, 1], one value per channel.
    classes : tuple of str
        Names of the classes, if the files lack them.
    parts : callable, optional
        A layout with keyword options, which the selector of a name gives: ``cifar10-c:fog,severity=3``.
    groups : mapping of str to str
        Named groups of classes, as lists of classes: ``cub:easy``.
    files : tuple of (str, str, str)
        Files to download, if torchvision does not download the set: address, path below the data folder, and checksum
        as stated by the publisher (see :func:`featood.downloads.has_checksum`; empty if there is none).
    untried : bool
        Whether its layout was tested only on small files, not on the published ones.
    """

    name: str
    title: str
    source: str
    kind: str = "images"
    num_classes: int = 0
    shape: tuple[int, int, int] | None = None
    splits: tuple[str, ...] = ("test",)
    folders: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    lists: Mapping[str, str] = field(default_factory=dict)
    generate: Callable[..., InputSet] | None = None
    made_of: tuple[str, ...] = ()
    download: tuple[str, tuple[dict[str, Any], ...]] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    parts: Callable[..., Loader | None] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    files: tuple[tuple[str, str, str], ...] = ()
    untried: bool = False
