"""A state machine that compares a cache with a model during extraction, interruption, damage and repair.

Example
-------
The same tests for a new store as for the stores of the project::

    from featood.cache import STORES
    from featood.testing.stateful import CacheMachine

    STORES["mine"] = MyStore

    class MyMachine(CacheMachine):
        stores = ("mine",)

    TestMyStore = MyMachine.TestCase
"""

from __future__ import annotations

__all__ = ["CacheMachine"]

import contextlib
import dataclasses
import importlib.util
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from featood.cache import FeatureCache, Manifest, SetWriter
from featood.cache.commits import commit_path
from featood.cache.reader import make_store
from featood.errors import CacheCorrupt, FeatoodError, Mismatch, UsageError
from featood.testing.copying import Copying
from featood.testing.drawing import st, stateful
from featood.testing.model import ModelSet, assert_holds, assert_right_or_refused
from featood.testing.world import PLACES, refused, same_recipe

HOW = ("same", "any", "overwrite")
"""Whether an extraction uses the recipe of the existing set, any recipe, or any recipe with overwriting."""
LOCKS = importlib.util.find_spec("fcntl") is not None
"""Whether locks can be disabled."""


@contextlib.contextmanager
def _no_locks() -> Iterator[None]:
    """Disable locks, as on a file system that ignores them."""
    with mock.patch("fcntl.flock"), mock.patch("fcntl.lockf"):
        yield


class CacheMachine(Copying):
    """Extraction in steps, interruption, damage, repair, garbage collection, open readers and concurrent writers."""

    def settle(self) -> None:
        """Start with a set of each backbone."""
        for number, key in enumerate((self.keys[0], self.keys[len(self.splits)])):
            self.extract_set(key, 0, self.stores[number % len(self.stores)])

    # ---- writing ------------------------------------------------------------------------------------

    def open_writer(self, key: str, expected: ModelSet, overwrite: bool) -> SetWriter:
        """Open a writer, and require its pending blocks to be those of the model."""
        writer = self.cache.writer(key, expected.manifest, expected.classifier, overwrite)
        entry = self.model.get(key)
        if entry is None or overwrite:
            entry = self.model[key] = dataclasses.replace(expected, manifest=writer.manifest)
        assert writer.pending() == entry.pending, (
            f"{key}: {writer.pending()} are pending, not {entry.pending}"
        )
        return writer

    def write_block(self, key: str, writer: SetWriter, block: int) -> None:
        """Write one block as an extraction does."""
        entry = self.model[key]
        rows = writer.span(block)
        assert rows == entry.rows(block), f"block {block} has the rows {rows}"
        lost = sorted(row for row in entry.failed if rows.start <= row < rows.stop)
        writer.write(block, {name: values[rows] for name, values in entry.values.items()}, lost)
        entry.committed.add(block)
        entry.lost.discard(block)
        entry.flipped.discard(block)

    def finish_set(self, key: str, writer: SetWriter) -> None:
        """Finish a set; an incomplete set must raise an error."""
        entry = self.model[key]
        if not entry.complete or entry.lost:
            refused(CacheCorrupt, lambda: writer.finish(key))
        elif entry.flipped:
            assert_right_or_refused(writer.finish(key), entry)
        else:
            assert_holds(writer.finish(key), entry)

    @stateful.rule(place=PLACES, variant=st.integers(0, 1), store=PLACES, how=st.sampled_from(HOW))
    def start(self, place: int, variant: int, store: int, how: str) -> None:
        """Start or resume an extraction; another recipe and a second writer must raise an error."""
        key = self.key(place)
        entry, overwrite = self.model.get(key), how == "overwrite"
        expected = self.expected(key, variant, self.stores[store % len(self.stores)])
        if entry is not None and how == "same":
            expected = self.expected(key, entry.manifest.recipe["variant"], entry.manifest.store)
        create = lambda: self.cache.writer(key, expected.manifest, expected.classifier, overwrite)  # noqa: E731
        if key in self.writers:
            refused(UsageError, create)
            self.done("second writer refused")
        elif entry is not None and not overwrite and not same_recipe(expected, entry):
            refused(Mismatch, create)
            self.done("other recipe refused")
        else:
            self.writers[key] = self.open_writer(key, expected, overwrite)
            self.done("resumed" if entry is not None and not overwrite else "started")

    @stateful.precondition(lambda self: self.writers)
    @stateful.rule(place=PLACES, blocks=st.integers(1, 4))
    def write(self, place: int, blocks: int) -> None:
        """Write some of the pending blocks."""
        key = self.key(place, sorted(self.writers))
        for block in self.model[key].pending[:blocks]:
            self.write_block(key, self.writers[key], block)
            self.done("blocks written")

    @stateful.precondition(lambda self: self.writers)
    @stateful.rule(place=PLACES)
    def finish(self, place: int) -> None:
        """Finish a set and close its writer."""
        key = self.key(place, sorted(self.writers))
        with self.writers.pop(key) as writer:
            self.finish_set(key, writer)
        self.done("finished")

    @stateful.precondition(lambda self: self.writers)
    @stateful.rule(place=PLACES, torn=st.booleans())
    def kill(self, place: int, torn: bool) -> None:
        """Interrupt a writer, possibly within a block, whose data are then partly wrong and have no record."""
        key = self.key(place, sorted(self.writers))
        writer, entry = self.writers.pop(key), self.model[key]
        left = [block for block in entry.pending if block not in entry.committed]
        if torn and left:
            rows = entry.rows(left[0])
            writer.store.write(left[0], {name: values[rows] * 0 for name, values in entry.values.items()})
            for name in (f"commits/{left[0]:05d}.json.0a1b2c.tmp", "0a1b2c.partial"):
                scratch = self.cache.folder(*key.split("/")) / name
                scratch.parent.mkdir(exist_ok=True)
                scratch.write_bytes(b"{")
            self.done("killed within a block")
        self.done("killed")

    @stateful.rule(place=PLACES, variant=st.integers(0, 1), store=PLACES)
    def extract(self, place: int, variant: int, store: int) -> None:
        """Extract a set or its remaining blocks, replacing a set with another recipe."""
        key = self.key(place)
        if key not in self.writers:
            self.extract_set(key, variant, self.stores[store % len(self.stores)])

    def extract_set(self, key: str, variant: int, store: str) -> None:
        """Write all pending blocks of a set, and finish it."""
        expected, entry = self.expected(key, variant, store), self.model.get(key)
        overwrite = entry is not None and not same_recipe(expected, entry)
        with self.open_writer(key, expected, overwrite) as writer:
            for block in writer.pending():
                self.write_block(key, writer, block)
            self.finish_set(key, writer)
        self.done("overwritten" if overwrite else "extracted")

    @stateful.precondition(lambda self: LOCKS)
    @stateful.rule(place=PLACES, variant=st.integers(0, 1), order=st.lists(st.booleans(), max_size=8))
    def race(self, place: int, variant: int, order: list[bool]) -> None:
        """Run two writers of the same set concurrently without locks: both write the same values."""
        key = self.key(place)
        entry = self.model.get(key)
        if key in self.writers:
            return
        expected = self.expected(key, variant, self.stores[0] if entry is None else entry.manifest.store)
        with _no_locks():
            overwrite = entry is not None and not same_recipe(expected, entry)
            both = self.open_writer(key, expected, overwrite), self.open_writer(key, expected, False)
            left = [writer.pending() for writer in both]
            for turn in (*order, *[False] * len(left[0]), *[True] * len(left[1])):
                if left[turn]:
                    self.write_block(key, both[turn], left[turn].pop(0))
            for writer in both:
                with writer:
                    self.finish_set(key, writer)
        self.done("raced")

    @stateful.precondition(lambda self: LOCKS)
    @stateful.rule(place=PLACES, order=st.lists(st.booleans(), max_size=8), store=PLACES)
    def usurp(self, place: int, order: list[bool], store: int) -> None:
        """Overwrite a set that another writer is still writing, without locks: values must never be mixed."""
        key = self.key(place)
        if key in self.writers:
            return
        kind = self.stores[store % len(self.stores)]
        both = self.expected(key, 0, kind), self.expected(key, 1, kind)
        with _no_locks():
            first = self.cache.writer(key, both[0].manifest, both[0].classifier, overwrite=True)
            with (
                first,
                self.cache.writer(key, both[1].manifest, both[1].classifier, overwrite=True) as second,
            ):
                for turn, block in zip(order, itertools.cycle(range(4)), strict=False):
                    if block < both[turn].manifest.blocks:
                        rows = both[turn].rows(block)
                        values = {name: column[rows] for name, column in both[turn].values.items()}
                        lost = [row for row in both[turn].failed if rows.start <= row < rows.stop]
                        with contextlib.suppress(Exception):  # its folder may have been removed
                            (second if turn else first).write(block, values, lost)
        winner = Manifest.load(self.cache.folder(*key.split("/")))
        expected = both[winner.recipe["variant"]]
        with contextlib.suppress(CacheCorrupt):
            assert_right_or_refused(self.cache[key], dataclasses.replace(expected, manifest=winner))
        shutil.rmtree(self.cache.folder(*key.split("/")))
        self.model.pop(key, None)
        self.done("usurped")

    # ---- damage and repair --------------------------------------------------------------------------

    def stored(self, place: int) -> tuple[str, ModelSet, int] | None:
        """Select a committed block whose files are complete, of a set without a writer."""
        candidates = [
            (key, entry, block)
            for key, entry in sorted(self.model.items())
            for block in sorted(entry.committed - entry.lost)
            if key not in self.writers
        ]
        if not candidates:
            return None
        key, entry, block = candidates[place % len(candidates)]
        self.touched.add(key)
        return key, entry, block

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(place=PLACES, file=PLACES, at=PLACES, bit=st.integers(0, 7))
    def flip(self, place: int, file: int, at: int, bit: int) -> None:
        """Flip one bit in a file of a block."""
        if (picked := self.stored(place)) is None:
            return
        key, entry, block = picked
        path = self.files(key, entry, block)[file % len(self.files(key, entry, block))]
        content = bytearray(path.read_bytes())
        content[at % len(content)] ^= 1 << bit
        path.write_bytes(bytes(content))
        entry.flipped.add(block)
        self.done("bits flipped")

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(
        place=PLACES, file=PLACES, how=st.sampled_from(["gone", "cut", "empty", "longer", "record"])
    )
    def lose(self, place: int, file: int, how: str) -> None:
        """Remove, truncate or extend a file of a block, or damage its record."""
        if (picked := self.stored(place)) is None:
            return
        key, entry, block = picked
        files = self.files(key, entry, block)
        path = files[file % len(files)]
        if how == "record":
            path = commit_path(self.cache.folder(*key.split("/")), block)
        content = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "longer": content + b"\0"}.get(how, content[:-1]))
        entry.lost.add(block)
        self.done("files lost")

    def files(self, key: str, entry: ModelSet, block: int) -> list[Path]:
        """Return the files of a block."""
        return make_store(self.cache.folder(*key.split("/")), entry.manifest).files(block)

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(place=PLACES, drop=st.booleans())
    def verify(self, place: int, drop: bool) -> None:
        """Verify a set; blocks that are dropped are written again by the next extraction."""
        key = self.key(place, sorted(self.model))
        entry = self.model[key]
        if drop and key in self.writers:
            return
        problems = self.cache.verify(key, drop)
        if not entry.complete or entry.lost:
            assert problems, f"{key} is incomplete, but verify finds no problem"
            self.done("verified, incomplete")
            return
        bad = {int(found[1]) for error in problems if (found := re.search(r"block (\d+) ", str(error)))}
        assert len(bad) == len(problems), f"verify names no block: {problems}"
        assert bad <= entry.flipped, (
            f"verify reports the blocks {bad} of {key}, but only {entry.flipped} may be damaged"
        )
        entry.flipped &= bad  # other flipped bits had no effect, so their blocks must be read correctly
        if drop:
            entry.committed -= bad
            entry.flipped -= bad
        self.done("verified, bad" if bad else "verified, good")

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(incomplete=st.booleans())
    def collect(self, incomplete: bool) -> None:
        """Collect garbage: temporary files and, if requested, incomplete sets, except those with a writer."""
        assert self.cache.garbage(incomplete) == [], "gc would remove files that were just written"
        self.cache.collect(self.cache.garbage(incomplete, older_than=0))
        for key in [key for key, entry in self.model.items() if key not in self.writers]:
            if incomplete and not self.model[key].complete:
                del self.model[key]
                self.touched.add(key)
                self.done("incomplete sets collected")
            folder = self.cache.folder(*key.split("/"))
            assert not [*folder.rglob("*.tmp"), *folder.rglob("*.partial")], (
                f"{key}: temporary files are left"
            )
        self.done("collected")

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(place=PLACES)
    def remove(self, place: int) -> None:
        """Remove the folder of a set."""
        key = self.key(place, sorted(self.model))
        if key not in self.writers:
            shutil.rmtree(self.cache.folder(*key.split("/")))
            del self.model[key]
            self.done("removed")

    @stateful.precondition(lambda self: self.model and not self.writers and self.steps > self.moved + 8)
    @stateful.rule()
    def move(self) -> None:
        """Rename the folder of the cache."""
        self.root, self.moved = self.root.rename(next(self.places)), self.steps
        self.cache = FeatureCache(self.root)
        self.done("moved")

    # ---- reading ------------------------------------------------------------------------------------

    def whole(self, damaged: bool = False) -> list[str]:
        """Return the keys of complete sets."""
        return [
            key
            for key, entry in sorted(self.model.items())
            if entry.complete and not entry.lost and (damaged or not entry.flipped)
        ]

    @stateful.precondition(lambda self: self.whole())
    @stateful.rule(place=PLACES)
    def open_reader(self, place: int) -> None:
        """Open a set, to read it after later changes."""
        key = self.key(place, self.whole())
        self.readers = [*self.readers[-2:], (self.cache[key], dataclasses.replace(self.model[key]))]
        self.done("opened early")

    @stateful.precondition(lambda self: self.readers)
    @stateful.rule(place=PLACES, start=st.integers(0, 12), rows=st.integers(0, 12))
    def read_late(self, place: int, start: int, rows: int) -> None:
        """Read from a set opened earlier: values must be correct, or an error is raised."""
        features, expected = self.readers[place % len(self.readers)]
        some = slice(start, start + rows)
        with contextlib.suppress(FeatoodError):
            part = features.rows(some)
            for name, values in part.features.items():
                assert np.asarray(values).tobytes() == expected.columns[name][some].tobytes(), f"late: {name}"
        right = assert_right_or_refused(features, expected)
        self.done("read late, right" if right else "read late, refused")
