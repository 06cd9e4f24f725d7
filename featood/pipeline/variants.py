"""One head fitted several times: for several seeds, or for every point of a grid of options."""

from __future__ import annotations

__all__ = ["Variant", "fit_variants"]

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featood.errors import UsageError
from featood.heads import create_head
from featood.heads.base.head import Head
from featood.pipeline.fitting import fit_head
from featood.pipeline.selection import Selection
from featood.pipeline.variant_labels import repeated_label, variant_label


@dataclasses.dataclass(frozen=True)
class Variant:
    """One fit of many."""

    label: str
    """Name and options, as ``score --head`` takes them."""
    head: Head
    folder: Path

    @property
    def group(self) -> str:
        """The label that it shares with its repetitions."""
        return repeated_label(self.label) or self.label


def fit_variants(
    selection: Selection,
    name: str,
    options: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    repeat: int = 1,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    **rest: Any,
) -> list[Variant]:
    """Fit a head for every point of a grid, each with as many seeds as asked for, and save them all.

    A label names all that differs from the defaults, so that fits with other settings are never taken for repetitions.
    Nothing is chosen among them: what each leaves, its loss on held-out rows among it, is in ``head.record``.

    Parameters
    ----------
    selection, name, options
        See :func:`featood.pipeline.fitting.fit_head`.
    grid : mapping of str to sequence, optional
        Values by option; all combinations are fitted.
    repeat : int
        Seeds for each, counted from that of the options.
    out : path, optional
        Folder for the artefacts' folders; by default the cache's.
    say, rest
        See :func:`featood.pipeline.fitting.fit_head`.

    Raises
    ------
    UsageError
        When the head has no seed and is to be repeated, or an option or value is not one of its own; nothing
        has been fitted then.
    """
    points = [
        dict(zip(grid or {}, values, strict=True)) for values in itertools.product(*(grid or {}).values())
    ]
    base = create_head(name, rest.get("preset"), **dict(options or {}))
    if repeat > 1:
        if "seed" not in base.options or "seed" in (grid or {}):
            raise UsageError(f"{name} has no seed to repeat it with" if "seed" not in base.options
                             else "name seeds in the grid, or the number of repetitions, not both")  # fmt: skip
        first = base.options["seed"]
        points = [{**point, "seed": first + turn} for point in points for turn in range(repeat)]
    usual = create_head(name, rest.get("preset")).options
    common = {"preset": rest["preset"]} if rest.get("preset") else {}
    common |= {key: value for key, value in (options or {}).items() if value != usual.get(key)}
    settings = [{**(options or {}), **point} for point in points]
    for setting in settings:
        create_head(name, rest.get("preset"), **setting)
    for key, values in (grid or {}).items():
        if len(set(values)) < len(values):
            raise UsageError(f"the grid has a value of {key} twice; name it once")
    root = Path(out) if out else selection.cache.heads_folder(selection.backbone, selection.dataset)
    variants = []
    for position, (point, setting) in enumerate(zip(points, settings, strict=True), 1):
        label = variant_label(name, {**common, **point})
        say(f"{position} of {len(points)}: {label}")
        head, folder = fit_head(selection, name, setting, out=root / label, say=say, **rest)
        variants.append(Variant(label, head, folder))
    return variants
