"""The rules of the cache's state machine that copy sets: exports, imports, joins."""

from __future__ import annotations

__all__ = ["Copying"]

import contextlib
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, logsumexp

from featood.cache import FeatureCache, Manifest, export_set, import_files
from featood.errors import CacheCorrupt, FeatoodError
from featood.pipeline.ensembles import COLUMN, join_sets
from featood.testing.drawing import stateful
from featood.testing.model import ModelSet, assert_holds, assert_right_or_refused, same_bits, whole
from featood.testing.world import JOINED, PLACES, World, refused


class Copying(World):
    """Exports to other caches and npy files, imports of npy files, and joins of the sets of two backbones."""

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(place=PLACES, form=PLACES)
    def export(self, place: int, form: int) -> None:
        """Copy a set out of the cache, and read the copy."""
        key = self.key(place, sorted(self.model))
        entry, target = self.model[key], next(self.places)
        kind = (*self.stores, "npy")[form % (len(self.stores) + 1)]
        if not entry.complete or entry.lost:
            refused(CacheCorrupt, lambda: export_set(self.cache, key, target, kind))
            self.done("export refused")
            return
        try:
            folder = export_set(self.cache, key, target, kind)
        except CacheCorrupt:
            assert entry.flipped, f"{key} is undamaged, but was not exported"
            if kind != "npy":
                with contextlib.suppress(FeatoodError):
                    assert_right_or_refused(FeatureCache(target)[key], entry)
            self.done("export refused")
            return
        if kind == "npy":
            self.read_arrays(folder, key, entry)
        else:
            assert_holds(FeatureCache(target)[key], entry, ways=1, seed=place)
        self.done(f"exported to {kind}")

    def read_arrays(self, folder: Path, key: str, entry: ModelSet) -> None:
        """Read npy files with NumPy, then import them into another cache."""
        columns = entry.columns
        for name, values in columns.items():
            found = np.load(folder / f"{name}.npy")
            same_bits(found.astype(object) if name == "ids" else found, values, f"{key}: {name}.npy")
        if not len(columns["ids"]):
            return
        features = [name for name in columns if name not in ("logits", "labels", "ids")]
        logits, labels = (
            str(folder / f"{name}.npy") if name in columns else None for name in ("logits", "labels")
        )
        cache = FeatureCache(next(self.places))
        imported = import_files(
            cache, key, [f"{name}={folder / name}.npy" for name in features], logits, labels
        )
        for name, values in whole(imported).items():
            if name != "ids":
                wanted = columns[name]
                kept = wanted.astype("f4") if wanted.dtype == "f8" else wanted
                same_bits(values[:], kept, f"{key}, imported: {name}")

    def joinable(self) -> list[str]:
        """List the splits for which both backbones have undamaged sets with equal numbers of classes, and rows."""
        found = []
        for split in self.splits:
            sets = [self.model.get(f"{backbone}/{self.dataset}/{split}") for backbone in self.backbones]
            shapes = {
                entry.manifest.columns["logits"].shape
                if entry and entry.complete and not entry.lost | entry.flipped and "logits" in entry.values
                else None
                for entry in sets
            }
            if (
                None not in shapes
                and len(shapes) == 1
                and len(self.inputs[split].failed) < self.inputs[split].rows
            ):
                found.append(split)
        return found

    @stateful.precondition(lambda self: self.joinable())
    @stateful.rule(place=PLACES)
    def join(self, place: int) -> None:
        """Join the sets of both backbones, replacing an earlier joined set."""
        split = self.joinable()[place % len(self.joinable())]
        members = [f"{backbone}/{self.dataset}/{split}" for backbone in self.backbones]
        key = f"{JOINED}/{self.dataset}/{split}"
        joined = join_sets(self.cache, JOINED, [self.cache[member] for member in members], overwrite=True)
        columns = [self.model[member].columns for member in members]
        logits = [member["logits"] for member in columns]
        same_bits(joined.features[COLUMN][:], np.concatenate(logits, 1), "joined logits")
        mean = logsumexp(log_softmax(np.array(logits, float), axis=2), axis=0) - np.log(len(logits))
        assert joined.logits is not None
        np.testing.assert_allclose(joined.logits[:], mean, rtol=1e-5, atol=1e-5)
        manifest = Manifest.load(self.cache.folder(*key.split("/")))
        first = self.model[members[0]]
        kept = [row for row in range(first.manifest.rows) if row not in first.failed]
        values = {name: first.values[name][kept] for name in self.inputs[split].values}
        values |= {COLUMN: np.concatenate(logits, 1), "logits": np.asarray(joined.logits[:])}
        self.model[key] = ModelSet(manifest, values, committed=set(range(manifest.blocks)))
        self.touched.add(key)
        self.done("joined")
