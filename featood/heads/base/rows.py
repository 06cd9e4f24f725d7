"""The rows passed to a head: only the columns that it needs, checked, with classes numbered as it needs them."""

from __future__ import annotations

__all__ = ["NUMBERS", "SelectedRows", "in_columns", "number_classes"]

import copy
import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from featood.cache.feature_set import ROWS, Classifier, FeatureSet
from featood.engines import LOCAL, Engine
from featood.errors import DataError
from featood.numerics.devices import pick_device

NUMBERS = "class_numbers"
"""Name of the tensor ``[K]`` with the class numbers in the state of a head that classifies."""
IMPOSSIBLE = float(torch.finfo(torch.float32).min)
"""Logit of a class without rows."""


class SelectedRows:
    """A FeatureSet as passed to a head: blocks of tensors on one device.

    Parameters
    ----------
    source : FeatureSet
        The set of the rows.
    columns : sequence of str
        Columns to read.
    nonfinite : str
        ``error`` raises at NaN and infinities; ``drop`` skips such rows.
    known_only : bool
        Skip rows with a negative label, which marks outliers.
    device : torch.device
        Device of the blocks.
    ranked : bool
        Replace class numbers by their rank among the classes that have rows, so that the number of classes of a head
        does not depend on the class numbers. `classes` has the numbers.
    """

    def __init__(
        self,
        source: FeatureSet,
        columns: Sequence[str],
        nonfinite: str = "error",
        known_only: bool = False,
        device: torch.device | str = "cpu",
        ranked: bool = False,
    ) -> None:
        self.outputs = source.num_classes
        """Number of the classifier's classes, which exceeds all labels; None without a classifier."""
        self.source = source.select(*columns)
        self.nonfinite = nonfinite
        self.known_only = known_only and self.source.labels is not None
        self.device = pick_device(device)
        self.ranked = ranked and self.source.labels is not None
        self.engine: Engine = LOCAL
        """Where blocks are computed, by :meth:`map` and :meth:`sum`."""
        self._map: Callable[[FeatureSet], FeatureSet] | None = None
        self._mapping: Callable[[], Hashable] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the engine: a copy in another process computes there."""
        return {**vars(self), "engine": LOCAL}

    def _copy(self) -> Self:
        other = copy.copy(self)
        other.engine = self.engine  # which `__getstate__` excludes
        return other

    def mapped(
        self, function: Callable[[FeatureSet], FeatureSet], key: Callable[[], Hashable] | None = None
    ) -> Self:
        """Return the same rows with `function` applied to each block, after skipped rows are removed.

        The optional `key` returns what determines the function; see :meth:`key`.
        """
        other = self._copy()
        other._map, other._mapping = function, key
        return other

    def one_column(self, name: str) -> Self:
        """Return the same rows with one feature column and their class numbers, for statistics that heads share."""
        other = self._copy()
        other.ranked = False
        if self.nonfinite == "error":  # otherwise a row is dropped if another column is not finite
            other.source = self.source.select(name, "labels")
        return other

    @property
    def key(self) -> Hashable:
        """What determines the values of all rows, see `numerics/sharing.py`; None if that is unknown."""
        if not self.source.content or (self._map is not None and self._mapping is None):
            return None
        mapping = None if self._mapping is None else self._mapping()
        columns = tuple(name for name, *_ in self.source._columns())
        return (
            self.source.content,
            columns,
            mapping,
            self.nonfinite,
            self.known_only,
            self.ranked,
            str(self.device),
        )

    def unmapped(self) -> Self:
        """Return the same rows as they are stored, without the function of :meth:`mapped`."""
        other = self._copy()
        other._map = other._mapping = None
        return other

    def only(self, *columns: str) -> Self:
        """Return the same rows and classes, with a subset of the columns."""
        other = self._copy()
        vars(other)["classes"] = self.classes
        other.source = self.source.select(*columns)
        return other

    @property
    def main(self) -> str:
        """Name of the classifier's input column."""
        return self.source.main

    @property
    def classifier(self) -> Classifier:
        """Weight ``[C, D]`` and bias ``[C]`` as float32 tensors."""
        if self.source.classifier is None:
            raise DataError(f"{self.source.name} has no classifier weight and bias; extract it again")
        weight, bias = (torch.as_tensor(part, device=self.device).float() for part in self.source.classifier)
        return Classifier(weight, bias)

    @functools.cached_property
    def classes(self) -> Tensor:
        """Numbers of the classes that have rows ``[K]``, ascending, on the CPU; empty without labels."""
        found = torch.empty(0, dtype=torch.long)
        if self.source.labels is None:
            return found
        drop = self.nonfinite == "drop"
        for block in (self.source if drop else self.source.select("labels")).blocks():
            labels = torch.as_tensor(block.labels).cpu()
            labels = labels[finite_rows(block)] if drop else labels
            found = torch.cat([found, labels[labels >= 0]]).unique()
        return found

    @property
    def num_classes(self) -> int:
        """Number of classes of the classifier; if labels are ranked or there is no classifier, of those with rows."""
        if not self.ranked and self.outputs is not None:
            return self.outputs
        return 1 if self.source.labels is None or not len(self.source) else len(self.classes)

    def masked_blocks(self, size: int = ROWS) -> Iterator[tuple[FeatureSet, Tensor]]:
        """Iterate over blocks without skipped rows, each with the mask ``[B]`` of the rows kept.

        Raises
        ------
        DataError
            If a value is not finite (unless such rows are dropped), or a label is out of range.
        """
        start = 0
        for block in self.source.blocks(size):
            yield self._masked(block, start)
            start += len(block)

    def numbered_blocks(self, numbers: Iterable[int]) -> Iterator[tuple[FeatureSet, Tensor]]:
        """Iterate over some of the blocks of `ROWS` rows, as :meth:`masked_blocks` does."""
        for number in numbers:
            start = number * ROWS
            yield self._masked(self.source.rows(slice(start, start + ROWS)).to_torch(), start)

    @property
    def numbers(self) -> range:
        """Numbers of the blocks of `ROWS` rows."""
        return range(-(-len(self.source) // ROWS))

    def _masked(self, block: FeatureSet, start: int) -> tuple[FeatureSet, Tensor]:
        keep = self._keep(block, start)
        kept = block if bool(keep.all()) else block.rows(keep)
        if self.ranked:
            labels = torch.as_tensor(kept.labels)
            ranks = torch.searchsorted(self.classes.to(labels.device), labels)
            kept = dataclasses.replace(kept, labels=ranks.where(labels >= 0, labels))
        kept = _moved(kept, self.device)
        return (kept if self._map is None else self._map(kept)), keep

    def blocks(self, size: int = ROWS) -> Iterator[FeatureSet]:
        """Iterate over blocks of at most `size` rows; raises like :meth:`masked_blocks`, and if no row is left."""
        empty = True
        for block, _ in self.masked_blocks(size):
            if len(block):
                empty = False
                yield block
        if empty:
            raise self._nothing_left()

    def map(self, function: Callable[[FeatureSet], Any]) -> Iterator[tuple[Any, Tensor]]:
        """Yield the result of each block without its skipped rows, and the mask ``[B]`` of the rows kept.

        The results are computed by `engine`; raises like :meth:`masked_blocks`.
        """
        if self.engine is LOCAL:
            for block, keep in self.masked_blocks():
                yield function(block), keep
        else:
            yield from self.engine.map(_BlockResults(self, function), self.numbers)

    def sum(self, accumulate: Callable[[Any, FeatureSet], Any]) -> Any:
        """Return the statistics of all rows, a sum over blocks that is the same for each `engine`, to the last bit.

        Parameters
        ----------
        accumulate : callable
            ``accumulate(statistics, block)`` adds a block to statistics, None at the start, and returns them. They have
            the methods `merge` and `without_rows` of :class:`featood.numerics.moments.ClassSums`.

        Raises
        ------
        DataError
            As :meth:`blocks`.
        """
        statistics = None
        if self.engine is LOCAL:  # in place, in memory for one sum
            for block in self.blocks():
                statistics = accumulate(statistics, block)
            return statistics
        for number in self.numbers:
            ((block, _),) = self.numbered_blocks([number])
            if len(block):  # the first block determines the shift
                statistics = accumulate(None, block)
                break
        else:
            raise self._nothing_left()
        work = _BlockResults(self, functools.partial(_of_block, accumulate, statistics.without_rows()))
        for part, _ in self.engine.map(work, self.numbers[number + 1 :]):
            if part is not None:
                statistics = statistics.merge(part)
        return statistics

    def _nothing_left(self) -> DataError:
        return DataError(
            f"{self.source.name}: no row is left to fit on (all labels are negative or all rows non-finite)"
        )

    def digest(self) -> str:
        """Return a digest of the values of all kept rows, independent of their type and blocks; empty without rows.

        Raises like :meth:`masked_blocks`.
        """
        digests: dict[str, Any] = {}
        count = 0
        for block, _ in self.masked_blocks():
            count += len(block)
            for name, values in _columns(block).items():
                exact = values.double().cpu().contiguous()
                digests.setdefault(name, hashlib.blake2b(digest_size=16)).update(exact.numpy().data)
        return "/".join(digest.hexdigest() for digest in digests.values()) if count else ""

    def load(self) -> FeatureSet:
        """Return all rows at once, for heads that store or revisit them; no row is held twice."""
        joined: dict[str, Tensor] = {}
        filled = 0
        for block in self.blocks():
            for name, values in _columns(block).items():
                if name not in joined:
                    joined[name] = values.new_empty(len(self.source), *values.shape[1:])
                joined[name][filled : filled + len(block)] = values
            filled += len(block)
        columns = {name: values[:filled] for name, values in joined.items()}
        logits, labels = columns.pop("logits", None), columns.pop("labels", None)
        return FeatureSet(
            columns, logits, labels, None, self.source.classifier, self.main, name=self.source.name
        )

    def _keep(self, block: FeatureSet, start: int) -> Tensor:
        finite = finite_rows(block)
        bad = int((~finite).sum())
        if bad:
            where = f"{self.source.name}: {bad} rows hold NaN or infinite values"
            if self.nonfinite == "error":
                row = start + int(torch.nonzero(~finite)[0])
                raise DataError(f"{where} (first: row {row}); fix them, or use --nonfinite drop")
            warnings.warn(f"{where} and were left out", stacklevel=2)
        if self.source.labels is None or not len(block):
            return finite
        labels = torch.as_tensor(block.labels).cpu()
        if self.outputs is not None and int(labels.max()) >= self.outputs:
            raise DataError(
                f"{self.source.name}: label {int(labels.max())} exceeds the classifier's {self.outputs} classes"
            )
        if (
            self.ranked and self.nonfinite == "drop"
        ):  # after `only`: a class whose rows are finite in these columns, but not in all
            finite &= torch.isin(labels, self.classes) | (labels < 0)
        return finite & (labels >= 0) if self.known_only else finite


@dataclasses.dataclass(frozen=True)
class _BlockResults:
    """The work of :meth:`SelectedRows.map`."""

    rows: SelectedRows
    function: Callable[[FeatureSet], Any]

    def __call__(self, numbers: Iterable[int]) -> Iterator[tuple[Any, Tensor]]:
        for block, keep in self.rows.numbered_blocks(numbers):
            yield self.function(block), keep


def _of_block(accumulate: Callable[[Any, FeatureSet], Any], start: Any, block: FeatureSet) -> Any:
    """Return the statistics of a block, None if it has no rows; `accumulate` may change its first argument."""
    return accumulate(start.without_rows(), block) if len(block) else None


def finite_rows(block: FeatureSet) -> Tensor:
    """Return a mask ``[B]`` of the rows of a block that are finite in every column."""
    finite = torch.ones(len(block), dtype=torch.bool)
    columns = [*block.features.values(), *([] if block.logits is None else [block.logits])]
    for values in columns:
        # NaN and infinity reach a sum, which takes a fraction of the time of isfinite; large finite values may too
        rows = values[:]
        seen = torch.isfinite(rows.sum(1, dtype=None if rows.dtype == torch.float64 else torch.float32))
        if not bool(seen.all()):
            seen = torch.isfinite(rows).all(1)
        finite &= seen.cpu()
    return finite


def _columns(block: FeatureSet) -> dict[str, Tensor]:
    """Return the columns of a block of tensors, in which `logits` and `labels` are columns too."""
    columns = {**block.features, "logits": block.logits, "labels": block.labels}
    return {name: torch.as_tensor(values) for name, values in columns.items() if values is not None}


def _moved(block: FeatureSet, device: torch.device) -> FeatureSet:
    if device.type == "cpu":
        return block
    return FeatureSet(
        {name: values[:].to(device) for name, values in block.features.items()},
        logits=None if block.logits is None else block.logits[:].to(device),
        labels=None if block.labels is None else block.labels[:].to(device),
        classifier=block.classifier,
        main=block.main,
        name=block.name,
    )


def number_classes(rows: SelectedRows) -> tuple[dict[str, Tensor], int | None]:
    """Return the tensors to add to the state, and the number of the classifier's classes.

    Nothing is added if the classes are numbered from 0 and each has rows.
    """
    every = torch.arange(len(rows.classes))
    plain = rows.outputs in (None, len(every)) and torch.equal(rows.classes, every)
    if plain or not rows.ranked:
        return {}, None
    return {NUMBERS: rows.classes.to(rows.device)}, rows.outputs


def in_columns(logits: Tensor, numbers: Tensor, count: int) -> Tensor:
    """Scatter logits ``[B, K]`` of the classes `numbers` to the columns of a classifier ``[B, count]``."""
    columns = logits.new_full((len(logits), count), IMPOSSIBLE)
    columns[:, numbers.to(logits.device)] = logits
    return columns
