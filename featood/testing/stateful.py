"""A state machine that drives a cache through extraction, kills, damage and repair, beside a perfect model of it.

Example
-------
A store of one's own, run through everything that the project's stores go through::

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
from featood.cache.reader import commit_path, make_store
from featood.errors import CacheCorrupt, FeatoodError, Mismatch, UsageError
from featood.testing.copying import Copying
from featood.testing.drawing import st, stateful
from featood.testing.model import ModelSet, assert_holds, assert_right_or_refused
from featood.testing.world import PLACES, refused, same_recipe

HOW = ("as it was", "any", "overwrite")
"""Whether an extraction begins by the recipe that is there, by any, or by any in place of what is there."""
LOCKS = importlib.util.find_spec("fcntl") is not None
"""Whether the system's locks can be made to do nothing."""


@contextlib.contextmanager
def _no_locks() -> Iterator[None]:
    """Let every lock be granted, as on a file system that ignores them."""
    with mock.patch("fcntl.flock"), mock.patch("fcntl.lockf"):
        yield


class CacheMachine(Copying):
    """Extraction by steps, kills, damage, repair, rubbish, early readers and rival writers."""

    def settle(self) -> None:
        """Begin with a set of each backbone."""
        for number, key in enumerate((self.keys[0], self.keys[len(self.splits)])):
            self.extract_set(key, 0, self.stores[number % len(self.stores)])

    # ---- writing ------------------------------------------------------------------------------------

    def open_writer(self, key: str, expected: ModelSet, overwrite: bool) -> SetWriter:
        """Open a writer, and require what is left to do to be what the model says."""
        writer = self.cache.writer(key, expected.manifest, expected.classifier, overwrite)
        there = self.model.get(key)
        if there is None or overwrite:
            there = self.model[key] = dataclasses.replace(expected, manifest=writer.manifest)
        assert writer.pending() == there.pending, f"{key}: {writer.pending()} are to do, not {there.pending}"
        return writer

    def write_block(self, key: str, writer: SetWriter, block: int) -> None:
        """Write one block as an extraction does."""
        there = self.model[key]
        rows = writer.span(block)
        assert rows == there.rows(block), f"block {block} has the rows {rows}"
        lost = sorted(row for row in there.failed if rows.start <= row < rows.stop)
        writer.write(block, {name: values[rows] for name, values in there.values.items()}, lost)
        there.committed.add(block)
        there.lost.discard(block)
        there.flipped.discard(block)

    def finish_set(self, key: str, writer: SetWriter) -> None:
        """Finish a set; an incomplete one is refused."""
        there = self.model[key]
        if not there.complete or there.lost:
            refused(CacheCorrupt, lambda: writer.finish(key))
        elif there.flipped:
            assert_right_or_refused(writer.finish(key), there)
        else:
            assert_holds(writer.finish(key), there)

    @stateful.rule(place=PLACES, variant=st.integers(0, 1), store=PLACES, how=st.sampled_from(HOW))
    def start(self, place: int, variant: int, store: int, how: str) -> None:
        """Begin or resume an extraction; another recipe is refused, and so is a second writer."""
        key = self.key(place)
        there, overwrite = self.model.get(key), how == "overwrite"
        expected = self.expected(key, variant, self.stores[store % len(self.stores)])
        if there is not None and how == "as it was":
            expected = self.expected(key, there.manifest.recipe["variant"], there.manifest.store)
        create = lambda: self.cache.writer(key, expected.manifest, expected.classifier, overwrite)  # noqa: E731
        if key in self.writers:
            refused(UsageError, create)
            self.done("second writer refused")
        elif there is not None and not overwrite and not same_recipe(expected, there):
            refused(Mismatch, create)
            self.done("other recipe refused")
        else:
            self.writers[key] = self.open_writer(key, expected, overwrite)
            self.done("resumed" if there is not None and not overwrite else "started")

    @stateful.precondition(lambda self: self.writers)
    @stateful.rule(place=PLACES, blocks=st.integers(1, 4))
    def write(self, place: int, blocks: int) -> None:
        """Write some of the blocks that are left."""
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
        """Abandon a writer, perhaps amid a block: its data are there, half of them wrong, and no record."""
        key = self.key(place, sorted(self.writers))
        writer, there = self.writers.pop(key), self.model[key]
        left = [block for block in there.pending if block not in there.committed]
        if torn and left:
            rows = there.rows(left[0])
            writer.store.write(left[0], {name: values[rows] * 0 for name, values in there.values.items()})
            for name in (f"commits/{left[0]:05d}.json.0a1b2c.tmp", "0a1b2c.partial"):
                scratch = self.cache.folder(*key.split("/")) / name
                scratch.parent.mkdir(exist_ok=True)
                scratch.write_bytes(b"{")
            self.done("killed amid a block")
        self.done("killed")

    @stateful.rule(place=PLACES, variant=st.integers(0, 1), store=PLACES)
    def extract(self, place: int, variant: int, store: int) -> None:
        """Extract a set whole, or what is left of it; over another recipe, as asked for."""
        key = self.key(place)
        if key not in self.writers:
            self.extract_set(key, variant, self.stores[store % len(self.stores)])

    def extract_set(self, key: str, variant: int, store: str) -> None:
        """Write all that is left of a set, and finish it."""
        expected, there = self.expected(key, variant, store), self.model.get(key)
        overwrite = there is not None and not same_recipe(expected, there)
        with self.open_writer(key, expected, overwrite) as writer:
            for block in writer.pending():
                self.write_block(key, writer, block)
            self.finish_set(key, writer)
        self.done("overwritten" if overwrite else "extracted")

    @stateful.precondition(lambda self: LOCKS)
    @stateful.rule(place=PLACES, variant=st.integers(0, 1), order=st.lists(st.booleans(), max_size=8))
    def race(self, place: int, variant: int, order: list[bool]) -> None:
        """Let two writers of one set run at once, where locks do nothing: both write the same values."""
        key = self.key(place)
        there = self.model.get(key)
        if key in self.writers:
            return
        expected = self.expected(key, variant, self.stores[0] if there is None else there.manifest.store)
        with _no_locks():
            overwrite = there is not None and not same_recipe(expected, there)
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
        """Let one writer overwrite the set of another that goes on, where locks do nothing: never a mixture of both."""
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
                        with contextlib.suppress(Exception):  # the ground may have gone from under it
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
        """Pick a committed block that is whole, of a set that nobody writes."""
        some = [
            (key, there, block)
            for key, there in sorted(self.model.items())
            for block in sorted(there.committed - there.lost)
            if key not in self.writers
        ]
        if not some:
            return None
        key, there, block = some[place % len(some)]
        self.touched.add(key)
        return key, there, block

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(place=PLACES, file=PLACES, at=PLACES, bit=st.integers(0, 7))
    def flip(self, place: int, file: int, at: int, bit: int) -> None:
        """Flip one bit in a file of a block."""
        if (picked := self.stored(place)) is None:
            return
        key, there, block = picked
        path = self.files(key, there, block)[file % len(self.files(key, there, block))]
        content = bytearray(path.read_bytes())
        content[at % len(content)] ^= 1 << bit
        path.write_bytes(bytes(content))
        there.flipped.add(block)
        self.done("bits flipped")

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(
        place=PLACES, file=PLACES, how=st.sampled_from(["gone", "cut", "empty", "longer", "record"])
    )
    def lose(self, place: int, file: int, how: str) -> None:
        """Remove, cut or lengthen a file of a block, or spoil its record."""
        if (picked := self.stored(place)) is None:
            return
        key, there, block = picked
        files = self.files(key, there, block)
        path = files[file % len(files)]
        if how == "record":
            path = commit_path(self.cache.folder(*key.split("/")), block)
        content = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "longer": content + b"\0"}.get(how, content[:-1]))
        there.lost.add(block)
        self.done("files lost")

    def files(self, key: str, there: ModelSet, block: int) -> list[Path]:
        """List the files of a block."""
        return make_store(self.cache.folder(*key.split("/")), there.manifest).files(block)

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(place=PLACES, drop=st.booleans())
    def verify(self, place: int, drop: bool) -> None:
        """Check a set; what is found bad and dropped is what the next extraction redoes."""
        key = self.key(place, sorted(self.model))
        there = self.model[key]
        if drop and key in self.writers:
            return
        problems = self.cache.verify(key, drop)
        if not there.complete or there.lost:
            assert problems, f"{key} is not whole, and verify finds nothing"
            self.done("verified, not whole")
            return
        bad = {int(found[1]) for error in problems if (found := re.search(r"block (\d+) ", str(error)))}
        assert len(bad) == len(problems), f"verify names no block: {problems}"
        assert bad <= there.flipped, (
            f"verify finds blocks {bad} of {key} bad, of which {there.flipped} may be"
        )
        there.flipped &= bad  # what else was flipped does not matter: it must read right from now on
        if drop:
            there.committed -= bad
            there.flipped -= bad
        self.done("verified, bad" if bad else "verified, good")

    @stateful.precondition(lambda self: self.model)
    @stateful.rule(incomplete=st.booleans())
    def collect(self, incomplete: bool) -> None:
        """Remove rubbish: scratch files, and unfinished sets where asked for; nothing of a set that is written."""
        assert self.cache.garbage(incomplete) == [], "gc takes what is but a moment old"
        self.cache.collect(self.cache.garbage(incomplete, older_than=0))
        for key in [key for key, there in self.model.items() if key not in self.writers]:
            if incomplete and not self.model[key].complete:
                del self.model[key]
                self.touched.add(key)
                self.done("unfinished sets collected")
            folder = self.cache.folder(*key.split("/"))
            assert not [*folder.rglob("*.tmp"), *folder.rglob("*.partial")], f"{key}: scratch files are left"
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
        """Keys of complete sets."""
        return [
            key
            for key, there in sorted(self.model.items())
            if there.complete and not there.lost and (damaged or not there.flipped)
        ]

    @stateful.precondition(lambda self: self.whole())
    @stateful.rule(place=PLACES)
    def open_reader(self, place: int) -> None:
        """Open a set to read it later, whatever becomes of it."""
        key = self.key(place, self.whole())
        self.readers = [*self.readers[-2:], (self.cache[key], dataclasses.replace(self.model[key]))]
        self.done("opened early")

    @stateful.precondition(lambda self: self.readers)
    @stateful.rule(place=PLACES, start=st.integers(0, 12), rows=st.integers(0, 12))
    def read_late(self, place: int, start: int, rows: int) -> None:
        """Read from a set opened earlier: right, or refused."""
        features, expected = self.readers[place % len(self.readers)]
        some = slice(start, start + rows)
        with contextlib.suppress(FeatoodError):
            part = features.rows(some)
            for name, values in part.features.items():
                assert np.asarray(values).tobytes() == expected.columns[name][some].tobytes(), f"late: {name}"
        right = assert_right_or_refused(features, expected)
        self.done("read late, right" if right else "read late, refused")
