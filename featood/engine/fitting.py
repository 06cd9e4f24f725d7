"""Fitting a head on a cached set, and finding fitted heads again."""

from __future__ import annotations

__all__ = ["chosen_heads", "default_preset", "find_heads", "fit_head", "get_head"]

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from featood.cache import FeatureSet
from featood.engine.extraction import extract_like
from featood.engine.outliers import with_outliers
from featood.engine.protocol import dataset_name, inputs_digest, overlap
from featood.engine.selection import Selection
from featood.errors import UsageError
from featood.heads import create_head, head_class, load_head
from featood.heads.base import FitContext, Head
from featood.heads.compositions.composition import Composition
from featood.heads.compositions.members import create_member


def default_preset(name: str, num_classes: int | None) -> str | None:
    """Choose published settings by the number of classes, for a head that has any."""
    presets = head_class(name).presets
    if not presets or num_classes is None:
        return None
    choice = "cifar10" if num_classes <= 20 else "cifar100" if num_classes <= 200 else "imagenet"
    return choice if choice in presets else None


def fit_head(
    selection: Selection,
    name: str,
    options: dict[str, Any] | None = None,
    preset: str | None = None,
    split: str = "",
    out: str | Path | None = None,
    progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    tuned: dict[str, Any] | None = None,
    outliers: str = "",
    data_dir: str | None = None,
) -> tuple[Head, Path]:
    """Fit a head on one split and save it.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    name : str
        Name of the head.
    options : dict, optional
        Its options.
    preset : str, optional
        Published settings to start from; by default those for a like number of classes.
    split : str
        ``train`` by default; a head that learns nothing takes any.
    out : path, optional
        Folder of the artefact; by default in the cache, under the head's name.
    progress : callable, optional
        See :class:`featood.heads.base.FitContext`.
    say : callable
        Takes one line about each choice made.
    tuned : dict, optional
        How the options were chosen, for the artefact; see :func:`featood.engine.tuning.tune_head`.
    outliers : str
        Out-of-distribution set to learn from, for heads that can; it can then not be scored against.
    data_dir : str, optional
        Where its images are, if they are still to be extracted.

    Raises
    ------
    DataError
        When the split is not there, or lacks what the head needs.
    """
    learns = head_class(name).card.learns
    chosen = selection.train_split(split) if learns or split else next(iter(selection.entries))
    train = selection.open(chosen)
    if preset is None and (preset := default_preset(name, train.num_classes)) is not None:
        say(f"settings: the {preset} preset (choose another with --preset)")
    options = dict(options or {})
    # names and folders of fitted heads are known here, not to the head
    members = options.pop("members", None) if issubclass(head_class(name), Composition) else None
    head = create_head(name, preset, **options)
    folder = Path(out) if out else selection.cache.heads_folder(selection.backbone, selection.dataset) / name
    say(f"fitting {name} on {train.name} ({len(train)} rows)")
    if train.origin["run"].get("weights") == "random":
        say(
            f"warning: the weights of {train.origin['run']['name']} are random: what is fitted on them means nothing"
        )
    rows = train
    if outliers:
        if not head.card.takes_outliers:
            raise UsageError(f"{name} does not learn from outliers; leave --outliers out")
        odd = extract_like(selection.cache, train, outliers, data_dir, say=say)
        if overlap(dataset_name(odd), dataset_name(train)):
            raise UsageError(f"{outliers} is the in-distribution set; name another for --outliers")
        rows = with_outliers(train, odd)
        tuned = {"on": dataset_name(odd), "inputs": inputs_digest(odd)}
    start = time.perf_counter()
    context = FitContext(progress, folder / "training")
    if isinstance(head, Composition):
        head = _compose(selection, head, members, train, context, say)
    else:
        head.fit(rows, context=context)
    head.meta["fit_seconds"] = round(time.perf_counter() - start, 3)
    if tuned is not None:
        head.meta["tuned"] = tuned
        what = "outliers came from" if outliers else "options were chosen on"
        head.meta["notes"].append(f"{what} {tuned['on']}: results are OOD-validated")
    head.save(folder)
    return head, folder


def _compose(
    selection: Selection,
    head: Composition,
    given: Sequence[str] | None,
    train: FeatureSet,
    context: FitContext,
    say: Callable[[str], None],
) -> Head:
    """Fit a composition of members as they are fitted already (by name or folder), and fit the others."""
    found = find_heads(selection)
    members = []
    for text in given or type(head).members:
        folder = Path(text) if Path(text, "head.json").is_file() else found.get(text)
        member = create_member(text, head.nonfinite) if folder is None else load_head(folder)
        say(f"member {member.name}: {f'as fitted in {folder}' if folder else 'fitted now'}")
        if folder is None and member.card.learns:
            member.fit(train, context=context)
        members.append(member)
    others = {name: value for name, value in head.options.items() if name != "members"}
    return type(head).of(members, train, **others)


def find_heads(selection: Selection) -> dict[str, Path]:
    """Fitted heads kept in the cache, by the name of their folder."""
    folder = selection.cache.heads_folder(selection.backbone, selection.dataset)
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/head.json"))}


def get_head(selection: Selection, name: str) -> Head:
    """Return a head to score with: from a folder, from the cache, or new where it need not be fitted.

    Raises
    ------
    UsageError
        When it must be fitted first.
    """
    if Path(name, "head.json").is_file():
        return load_head(name)
    found = find_heads(selection)
    if name in found:
        return load_head(found[name])
    if head_class(name).card.learns:
        where = f"{selection.backbone}/{selection.dataset}"
        raise UsageError(f"{name} has not been fitted on {where}; fit it with featood fit {name}")
    return create_head(name)


def chosen_heads(selection: Selection, names: Sequence[str]) -> dict[str, Head]:
    """Return the heads to score with: those named, else all that are fitted.

    Raises
    ------
    UsageError
        When none is named and none is fitted.
    """
    wanted = list(dict.fromkeys(names)) or list(find_heads(selection))
    if not wanted:
        where = f"{selection.backbone}/{selection.dataset}"
        raise UsageError(
            f"no head is fitted on {where} yet; fit one (featood fit knn) or name one (--head energy)"
        )
    return {Path(name).name if "/" in name else name: get_head(selection, name) for name in wanted}
