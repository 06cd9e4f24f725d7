"""Fitting a head several times: with several seeds, or for every point of a grid of options."""

from __future__ import annotations

__all__ = ["Variant", "fit_variants"]

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from featood.errors import UsageError
from featood.heads import create_head
from featood.heads.base.head import Head
from featood.names import folder_name
from featood.objects import Location, location
from featood.pipeline.fitted_heads import heads_folder
from featood.pipeline.fitting import FitPlan, fit_head
from featood.pipeline.selection import Selection
from featood.pipeline.variant_labels import repeated_label, variant_label
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of several fits of a head."""

    label: str
    """Name and options, as accepted by ``score --head``."""
    head: Head
    folder: Location

    @property
    def group(self) -> str:
        """The label without the seed."""
        return repeated_label(self.label) or self.label


def fit_variants(
    selection: Selection,
    name: str,
    options: Mapping[str, Any] | None = None,
    plan: FitPlan = FitPlan(),  # noqa: B008  (frozen)
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    repeat: int = 1,
    reporter: Reporter = SILENT,
) -> list[Variant]:
    """Fit a head for every point of a grid, with several seeds each, and save all fits.

    A label lists all differences from the defaults, so fits with other settings never count as repetitions. None of
    the fits is selected: each has its record, with the loss on held-out rows, in ``head.record``.

    Parameters
    ----------
    selection, name, options
        See :func:`featood.pipeline.fitting.fit_head`.
    plan : FitPlan
        What to fit on; ``plan.out`` is the folder in which all artefacts are stored, by default in the cache.
    grid : mapping of str to sequence, optional
        Values by option; all combinations are fitted.
    repeat : int
        Number of seeds per point, starting with the seed in `options`.
    reporter : Reporter
        Receives a line about each fit, and the progress of trainings.

    Raises
    ------
    UsageError
        If `repeat` is given for a head without a seed, or an option or value is invalid; raised before the first fit.
    """
    points = [
        dict(zip(grid or {}, values, strict=True)) for values in itertools.product(*(grid or {}).values())
    ]
    base = create_head(name, plan.preset, **dict(options or {}))
    if repeat > 1:
        if "seed" not in base.options or "seed" in (grid or {}):
            raise UsageError(f"{name} has no seed, so it cannot be repeated" if "seed" not in base.options
                             else "give either seeds in the grid or the number of repetitions, not both")  # fmt: skip
        first = base.options["seed"]
        points = [{**point, "seed": first + turn} for point in points for turn in range(repeat)]
    usual = create_head(name, plan.preset).options
    common = {"preset": plan.preset} if plan.preset else {}
    common |= plan.rows
    common |= {key: value for key, value in (options or {}).items() if value != usual.get(key)}
    settings = [{**(options or {}), **point} for point in points]
    for setting in settings:
        create_head(name, plan.preset, **setting)
    for key, values in (grid or {}).items():
        if len(set(values)) < len(values):
            raise UsageError(f"the grid has a value of {key} twice; name it once")
    root = location(plan.out) if plan.out else heads_folder(selection)
    variants = []
    for position, (point, setting) in enumerate(zip(points, settings, strict=True), 1):
        label = variant_label(name, {**common, **point})
        reporter.line(f"{position} of {len(points)}: {label}")
        own = dataclasses.replace(plan, out=root / folder_name(label))
        head, folder = fit_head(selection, name, setting, own, reporter=reporter)
        variants.append(Variant(label, head, folder))
    return variants
