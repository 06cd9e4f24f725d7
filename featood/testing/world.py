"""The initial state of the cache's state machine: names, inputs, recipes, a real cache and its model."""

from __future__ import annotations

__all__ = ["JOINED", "PLACES", "World", "refused", "same_recipe"]

import dataclasses
import itertools
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featood.cache import Classifier, ColumnSpec, FeatureCache, FeatureSet, Manifest, SetWriter, slug
from featood.errors import FeatoodError
from featood.testing.drawing import st, stateful
from featood.testing.model import CacheModel, ModelSet, assert_lists, assert_reads
from featood.testing.strategies import encoded_ids, manifests, names, stored_values

JOINED = "joined"
"""Backbone name of joined sets."""
PLACES = st.integers(0, 2**16)
"""Numbers that select a key, a block or a byte, modulo the number of candidates."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of a split: ids, optional labels, and the rows that cannot be read."""

    seed: int
    rows: int
    failed: frozenset[int]
    values: dict[str, np.ndarray] = dataclasses.field(repr=False)

    @property
    def columns(self) -> dict[str, ColumnSpec]:
        """Their columns."""
        return {name: ColumnSpec(column.shape[1:], str(column.dtype)) for name, column in self.values.items()}


@st.composite
def _inputs(draw: st.DrawFn) -> Inputs:
    seed, rows = draw(st.integers(0, 99)), draw(st.integers(1, 12))
    failed = draw(st.frozensets(st.integers(0, rows - 1), max_size=3))
    values = {"ids": encoded_ids(rows, 24)}
    if draw(st.booleans()):
        values["labels"] = np.random.default_rng(seed).integers(-1, 4, rows)
    return Inputs(seed, rows, failed, values)


@st.composite
def _recipes(draw: st.DrawFn, variant: int) -> tuple[Manifest, Classifier | None]:
    manifest = draw(manifests(recipe=variant))
    columns = {name: spec for name, spec in manifest.columns.items() if name not in ("labels", "ids")}
    classes = columns["logits"].shape[0] if "logits" in columns else 2
    shape = classes, columns["avg"].shape[0]
    rng = np.random.default_rng(draw(PLACES))
    classifier = Classifier(rng.normal(size=shape).astype("f4"), rng.normal(size=classes).astype("f4"))
    return dataclasses.replace(manifest, columns=columns), classifier if draw(st.booleans()) else None


def same_recipe(one: ModelSet, other: ModelSet) -> bool:
    """Return whether two sets have the same recipe and the same store."""
    return one.manifest.recipe == other.manifest.recipe and one.manifest.store == other.manifest.store


def refused(kind: type[FeatoodError], call: Callable[[], Any]) -> None:
    """Require a call to raise an error of a kind, with a message of one line."""
    try:
        call()
    except kind as error:
        assert str(error) and "\n" not in str(error), f"the error message is not one line: {error!r}"
    else:
        raise AssertionError(f"{kind.__name__} was not raised, but is expected by the model")


class World(stateful.RuleBasedStateMachine):
    """Two backbones, a dataset, two splits and two recipes; cache and model are compared after every step.

    Complete sets must be bit-identical in every public way of reading; incomplete sets must raise an error that names
    them; damaged sets must be correct or raise an error; and the listing of the cache must equal that of the model.

    Attributes
    ----------
    stores : tuple of str
        Names in :data:`featood.cache.STORES` to choose from.
    thorough : bool
        Compare all sets after every step; otherwise those changed by the step and one other.
    tally : Counter
        Number of times that each action was performed, over all machines.
    """

    stores: ClassVar[tuple[str, ...]] = ("zarr", "hdf5")
    thorough: ClassVar[bool] = False
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="featood-machine-"))
        self.root = self.folder / "cache"
        self.cache = FeatureCache(self.root)
        self.model = CacheModel()
        self.writers: dict[str, SetWriter] = {}
        self.readers: list[tuple[FeatureSet, ModelSet]] = []
        self.touched: set[str] = set()
        self.places = (self.folder / f"place-{number}" for number in itertools.count())
        self.steps = self.moved = 0

    def teardown(self) -> None:
        """Compare once more, and remove all files."""
        self.writers.clear()
        try:
            if sys.exception() is None:  # after a failed step, the two may differ
                for key in self.keys:
                    assert_reads(self.cache, key, self.model.get(key), ways=2, seed=self.steps)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # ---- the world ----------------------------------------------------------------------------------

    @stateful.initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Draw names, recipes, and the inputs of each split."""
        distinct = st.lists(names().map(slug), min_size=2, max_size=2, unique_by=str.casefold)
        self.backbones = data.draw(distinct.filter(lambda both: JOINED not in both), "backbones")
        self.dataset = slug(data.draw(names(), "dataset"))
        self.splits = data.draw(distinct, "splits")
        self.keys = [
            f"{backbone}/{self.dataset}/{split}"
            for backbone in (*self.backbones, JOINED)
            for split in self.splits
        ]
        self.inputs = {split: data.draw(_inputs(), f"inputs of {split}") for split in self.splits}
        self.recipes = [data.draw(_recipes(variant), f"recipe {variant}") for variant in range(2)]
        self.settle()

    def settle(self) -> None:
        """Create the initial content of the cache."""

    def expected(self, key: str, variant: int, store: str) -> ModelSet:
        """Return the expected set of an extraction, without committed blocks."""
        backbone, dataset, split = key.split("/")
        inputs, (manifest, classifier) = self.inputs[split], self.recipes[variant]
        manifest = dataclasses.replace(
            manifest,
            recipe={**manifest.recipe, "backbone": backbone},
            data={"dataset": dataset, "split": split, "inputs_sha256": str(inputs.seed)},
            columns={**manifest.columns, **inputs.columns},
            rows=inputs.rows,
            block_rows=max(manifest.block_rows, -(-inputs.rows // 4)),
            store=store,
        )
        seed = 3 * inputs.seed + self.backbones.index(backbone)
        values = {**stored_values(manifest, seed + 7 * variant), **inputs.values}
        return ModelSet(manifest, values, inputs.failed, classifier)

    def key(self, place: int, among: list[str] | None = None) -> str:
        """Select a key, and mark its set as touched."""
        candidates = self.keys[: 2 * len(self.splits)] if among is None else among
        key = candidates[place % len(candidates)]
        self.touched.add(key)
        return key

    def done(self, what: str) -> None:
        """Count an action of a rule."""
        self.tally[what] += 1

    def listing(self) -> list[dict[str, Any]]:
        """Return the rows of ``featood cache ls --json``."""
        return [
            {
                "key": entry.key,
                "rows": entry.manifest.rows,
                "columns": {name: list(spec.shape) for name, spec in entry.manifest.columns.items()},
                "store": entry.manifest.store,
                "complete": entry.complete,
                "blocks": [entry.committed, entry.manifest.blocks],
                "fingerprint": entry.manifest.fingerprint,
                "backbone_fingerprint": entry.manifest.backbone_fingerprint,
            }
            for entry in self.cache.entries()
        ]

    @stateful.invariant()
    def agree(self) -> None:
        """Compare the cache with the model."""
        self.steps += 1
        touched = {*self.touched, self.keys[self.steps % len(self.keys)]}
        for key in self.keys:
            if self.thorough or key in touched:
                assert_reads(self.cache, key, self.model.get(key), ways=1, seed=self.steps)
        self.touched.clear()
        assert_lists(self.listing(), self.model)
