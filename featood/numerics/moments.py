"""Class counts, means and scatter in one pass: shifted, in float64, mergeable in any order."""

from __future__ import annotations

__all__ = ["ClassMoments", "ScatterByClass"]

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from featood.errors import DataError

CHUNK_BYTES = 1 << 28


@dataclasses.dataclass
class ClassMoments:
    """Sufficient statistics of Gaussians with class means and one covariance.

    Everything is kept relative to `shift` (the mean of the first rows seen), for the difference of large
    sums would otherwise cancel. Rows with a negative label are ignored.

    Parameters
    ----------
    shift : Tensor
        ``[D]``.
    count : Tensor
        ``[C]`` rows per class; C grows with the largest label seen.
    total : Tensor
        ``[C, D]`` sums of shifted rows.
    scatter : Tensor
        ``[D, D]`` sum of outer products of shifted rows.
    """

    shift: Tensor
    count: Tensor
    total: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, shift: Tensor) -> ClassMoments:
        """Start with no rows."""
        shift = shift.double()
        size = len(shift)
        return cls(shift, shift.new_zeros(0), shift.new_zeros(0, size), shift.new_zeros(size, size))

    @classmethod
    def of(cls, features: Tensor, labels: Tensor | None, seen: ClassMoments | None = None) -> ClassMoments:
        """Take up a block of rows ``[B, D]`` with labels ``[B]`` (None: one class), after what was seen before."""
        if labels is None:
            labels = torch.zeros(len(features), dtype=torch.long, device=features.device)
        known = labels >= 0
        if not bool(known.all()):
            features, labels = features[known], labels[known]
        rows = features.double()
        if seen is None:
            shift = rows.mean(0) if len(rows) else rows.new_zeros(features.shape[1])
            seen = cls.empty(shift)
        seen.add(rows, labels)
        return seen

    def add(self, rows: Tensor, labels: Tensor) -> None:
        """Add float64 rows ``[B, D]`` of known classes."""
        if rows.shape[1] != len(self.shift):
            raise DataError(
                f"features have {rows.shape[1]} columns, not {len(self.shift)} as the rows before"
            )
        if not len(rows):
            return
        self._grow(int(labels.max()) + 1)
        shifted = rows - self.shift
        self.count += torch.bincount(labels, minlength=len(self.count)).double()
        self.total.index_add_(0, labels, shifted)
        self.scatter.addmm_(shifted.T, shifted)

    def _grow(self, classes: int) -> None:
        extra = classes - len(self.count)
        if extra > 0:
            self.count = torch.cat([self.count, self.count.new_zeros(extra)])
            self.total = torch.cat([self.total, self.total.new_zeros(extra, len(self.shift))])

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Combine with statistics of other rows; the order of merging matters only to the last bits."""
        self._grow(len(other.count))
        other._grow(len(self.count))
        offset = other.shift - self.shift
        moved = other.total + other.count[:, None] * offset
        cross = torch.outer(other.total.sum(0), offset)
        scatter = other.scatter + cross + cross.T + other.count.sum() * torch.outer(offset, offset)
        return ClassMoments(self.shift, self.count + other.count, self.total + moved, self.scatter + scatter)

    @property
    def rows(self) -> float:
        """Number of rows seen."""
        return float(self.count.sum())

    def means(self) -> Tensor:
        """Class means ``[C, D]``; NaN for classes without rows."""
        return self.shift + self.total / self.count[:, None]

    def mean(self) -> Tensor:
        """Mean of all rows ``[D]``."""
        return self.shift + self.total.sum(0) / self.count.sum()

    def covariance(self) -> Tensor:
        """Covariance of all rows around their common mean ``[D, D]``, divided by N."""
        mean = self.total.sum(0) / self.rows
        return _symmetric(self.scatter / self.rows - torch.outer(mean, mean))

    def within_covariance(self) -> Tensor:
        """Covariance of the rows around their class means ``[D, D]``, divided by N (maximum likelihood)."""
        weighted = self.total / self.count.clamp(min=1).sqrt()[:, None]
        return _symmetric((self.scatter - weighted.T @ weighted) / self.rows)


@dataclasses.dataclass
class ScatterByClass:
    """Sufficient statistics of Gaussians with a covariance for each class: ``[C, D, D]`` in float64."""

    shift: Tensor
    count: Tensor
    total: Tensor
    scatter: Tensor

    @classmethod
    def of(
        cls, features: Tensor, labels: Tensor, seen: ScatterByClass | None = None, diagonal: bool = False
    ) -> ScatterByClass:
        """Take up a block of rows ``[B, D]``; with `diagonal` the scatter is ``[C, D]``, the squares alone."""
        known = labels >= 0
        rows, labels = features[known].double(), labels[known]
        if seen is None:
            shift = rows.mean(0) if len(rows) else rows.new_zeros(features.shape[1])
            size = (0, len(shift)) if diagonal else (0, len(shift), len(shift))
            seen = cls(shift, shift.new_zeros(0), shift.new_zeros(0, len(shift)), shift.new_zeros(size))
        if not len(rows):
            return seen
        seen._grow(int(labels.max()) + 1)
        shifted = rows - seen.shift
        seen.count += torch.bincount(labels, minlength=len(seen.count)).double()
        seen.total.index_add_(0, labels, shifted)
        if diagonal:
            seen.scatter.index_add_(0, labels, shifted.square())
        else:
            for classes, padded in _by_class(shifted, labels):
                seen.scatter[classes] += padded.mT @ padded
        return seen

    def _grow(self, classes: int) -> None:
        for name in ("count", "total", "scatter"):
            values: Tensor = getattr(self, name)
            extra = classes - len(values)
            if extra > 0:
                setattr(self, name, torch.cat([values, values.new_zeros(extra, *values.shape[1:])]))

    def merge(self, other: ScatterByClass) -> ScatterByClass:
        """Combine with statistics of other rows."""
        self._grow(len(other.count))
        other._grow(len(self.count))
        offset = other.shift - self.shift
        if self.scatter.ndim == 2:
            moved = 2 * other.total * offset + other.count[:, None] * offset.square()
        else:
            cross = other.total[:, :, None] * offset
            moved = cross + cross.mT + other.count[:, None, None] * torch.outer(offset, offset)
        return ScatterByClass(
            self.shift,
            self.count + other.count,
            self.total + other.total + other.count[:, None] * offset,
            self.scatter + other.scatter + moved,
        )

    def means(self) -> Tensor:
        """Class means ``[C, D]``; NaN for classes without rows."""
        return self.shift + self.total / self.count[:, None]

    def covariances(self, unbiased: bool = False) -> Tensor:
        """Class covariances ``[C, D, D]`` (or variances ``[C, D]``), divided by n_c, or by n_c - 1."""
        count = self.count.clamp(min=1)
        divisor = (count - 1).clamp(min=1) if unbiased else count
        if self.scatter.ndim == 2:
            return ((self.scatter - self.total.square() / count[:, None]) / divisor[:, None]).clamp(min=0)
        mean = self.total / count.sqrt()[:, None]
        return (self.scatter - mean[:, :, None] * mean[:, None, :]) / divisor[:, None, None]


def _by_class(rows: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield groups of classes and their rows padded with zeros to ``[k, m, D]``, within a fixed memory."""
    order = torch.argsort(labels, stable=True)
    classes, counts = torch.unique_consecutive(labels[order], return_counts=True)
    ends = counts.cumsum(0)
    longest = int(counts.max())
    group = max(1, CHUNK_BYTES // (8 * rows.shape[1] * max(longest, rows.shape[1])))
    position = torch.arange(longest, device=rows.device)
    for start in range(0, len(classes), group):
        part = slice(start, start + group)
        index = (ends[part] - counts[part])[:, None] + position
        inside = position < counts[part, None]
        padded = rows[order[index.clamp(max=len(rows) - 1)]] * inside[:, :, None]
        yield classes[part], padded


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2
