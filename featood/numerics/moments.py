"""Class counts, means and scatter in one pass: shifted, in float64, mergeable in any order.

Statistics are stored by class number, only for classes that occur. Parts of the rows may therefore contain different
classes, and memory depends only on the number of classes. Rows with a negative label are ignored.
"""

from __future__ import annotations

__all__ = ["ClassMoments", "ClassSums", "ScatterByClass"]

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featood.errors import DataError
from featood.numerics.symmetric import mirrored, outer_products

CHUNK_BYTES = 1 << 26
ROUNDING = 1e-12
"""Variances up to this share of the mean square of the shifted feature are rounding errors."""


@dataclasses.dataclass
class ClassSums:
    """Sufficient statistics of class means.

    Sums are relative to `shift` (the mean of the first rows), which prevents cancellation of large sums.

    Parameters
    ----------
    shift : Tensor
        ``[D]``.
    classes : Tensor
        ``[K]`` numbers of the classes that have rows, ascending.
    count : Tensor
        ``[K]`` number of rows of each class.
    total : Tensor
        ``[K, D]`` sums of shifted rows.
    """

    by_class: ClassVar[tuple[str, ...]] = ("count", "total")
    """Fields with one entry per class."""

    shift: Float[Tensor, "D"]
    classes: Int[Tensor, "K"]
    count: Float[Tensor, "K"]
    total: Float[Tensor, "K D"]

    @classmethod
    def empty(cls, shift: Float[Tensor, "D"]) -> Self:
        """Return statistics without rows."""
        shift = shift.double()
        none = torch.empty(0, dtype=torch.long, device=shift.device)
        return cls(shift, none, shift.new_zeros(0), shift.new_zeros(0, len(shift)))

    @classmethod
    def of(
        cls, features: Float[Tensor, "B D"], labels: Int[Tensor, "B"] | None, seen: Self | None = None
    ) -> Self:
        """Add a block of rows ``[B, D]`` with labels ``[B]`` (None: one class) to `seen`, or to empty statistics."""
        rows, labels = _known(features, labels)
        seen = cls.empty(_start(rows)) if seen is None else seen
        seen.add(rows, labels)
        return seen

    def add(self, rows: Float[Tensor, "B D"], labels: Int[Tensor, "B"]) -> None:
        """Add rows ``[B, D]`` of known classes."""
        if rows.shape[1] != len(self.shift):
            raise DataError(
                f"features have {rows.shape[1]} columns, not {len(self.shift)} as the previous rows"
            )
        if not len(rows):
            return
        classes = torch.cat([self.classes, labels]).unique()
        vars(self).update(vars(self._over(classes)))
        index = torch.searchsorted(classes, labels)
        # one array in float64 instead of two, as much time passes in the allocation of memory
        shifted = rows - self.shift if rows.dtype == torch.float64 else rows.double().sub_(self.shift)
        self.count += torch.bincount(index, minlength=len(classes)).double()
        _add_sums(self.total, index, shifted)
        self._scatter(shifted, index)

    def without_rows(self) -> Self:
        """Return statistics of no rows with the same shift; blocks that are added to it can be merged exactly."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in values.keys() - {"shift"}:
            size = values[name].shape
            values[name] = values[name].new_zeros(
                (0, *size[1:]) if name in ("classes", *self.by_class) else size
            )
        return type(self)(**values)

    def merge(self, other: Self) -> Self:
        """Combine with statistics of other rows.

        The order of merging, and another shift, change only the last bits. Merging the statistics of a block that was
        added to `without_rows` is identical to adding it.
        """
        classes = torch.cat([self.classes, other.classes]).unique()
        mine, theirs = self._over(classes), other._over(classes)
        offset = theirs.shift - mine.shift
        moved = theirs._moved(offset) if bool(offset.any()) else theirs
        fields = {field.name for field in dataclasses.fields(self)} - {"shift", "classes"}
        sums = {name: getattr(mine, name) + getattr(moved, name) for name in fields}
        return dataclasses.replace(mine, **sums)

    @property
    def rows(self) -> float:
        """Number of rows seen."""
        return float(self.count.sum())

    def means(self) -> Float[Tensor, "K D"]:
        """Means of the classes ``[K, D]``."""
        return self.shift + self.total / self.count[:, None]

    def mean(self) -> Float[Tensor, "D"]:
        """Mean of all rows ``[D]``."""
        return self.shift + self.total.sum(0) / self.count.sum()

    def fourth_powers(
        self, features: Float[Tensor, "B D"], labels: Int[Tensor, "B"] | None
    ) -> Float[Tensor, "K"]:
        """Sum the fourth powers ``[K]`` of the distances of rows ``[B, D]`` from the means of their classes.

        Ledoit and Wolf's intensity uses them. In a single pass they would need the scatter of every class, so they are
        computed in a second pass over the same rows.
        """
        rows, labels = _known(features, labels)
        index = torch.searchsorted(self.classes, labels)
        powers = (rows - self.means()[index]).square().sum(1).square()
        return torch.zeros_like(self.count).index_add_(0, index, powers)

    def _over(self, classes: Int[Tensor, "K"]) -> Self:
        """Return the statistics for a superset of the classes; new classes have no rows."""
        if len(classes) == len(self.classes):
            return self
        index = torch.searchsorted(classes, self.classes)
        wider = {}
        for name in self.by_class:
            values: Tensor = getattr(self, name)
            wider[name] = values.new_zeros(len(classes), *values.shape[1:])
            wider[name][index] = values
        return dataclasses.replace(self, classes=classes, **wider)

    def _scatter(self, shifted: Float[Tensor, "B D"], index: Int[Tensor, "B"]) -> None:
        """Add shifted rows ``[B, D]`` of the classes at `index` ``[B]`` to further statistics of a subclass."""

    def _moved(self, offset: Float[Tensor, "D"]) -> Self:
        """Return the sums relative to a shift that is smaller by `offset` ``[D]``."""
        return dataclasses.replace(self, total=self.total + self.count[:, None] * offset)


@dataclasses.dataclass
class ClassMoments(ClassSums):
    """Sufficient statistics of Gaussians with class means and one covariance.

    In addition to the sums, `upper` ``[D, D]`` is the sum of outer products of shifted rows, which is symmetric; only
    its upper triangle is kept.
    """

    upper: Float[Tensor, "D D"]

    @classmethod
    def empty(cls, shift: Float[Tensor, "D"]) -> Self:
        """Return statistics without rows."""
        sums = ClassSums.empty(shift)
        return cls(**vars(sums), upper=sums.shift.new_zeros(len(shift), len(shift)))

    def _scatter(self, shifted: Float[Tensor, "B D"], index: Int[Tensor, "B"]) -> None:
        self.upper += outer_products(shifted)

    def _moved(self, offset: Float[Tensor, "D"]) -> Self:
        cross = torch.outer(self.total.sum(0), offset)
        upper = self.upper + cross + cross.T + self.count.sum() * torch.outer(offset, offset)
        return dataclasses.replace(super()._moved(offset), upper=upper)

    @property
    def scatter(self) -> Float[Tensor, "D D"]:
        """Sum of outer products of shifted rows ``[D, D]``."""
        return mirrored(self.upper)

    def covariance(self) -> Float[Tensor, "D D"]:
        """Covariance of all rows around their common mean ``[D, D]``, divided by N."""
        mean = self.total.sum(0) / self.rows
        return self._cleaned(self.upper / self.rows - torch.outer(mean, mean))

    def within_covariance(self) -> Float[Tensor, "D D"]:
        """Covariance of the rows around their class means ``[D, D]``, divided by N (maximum likelihood)."""
        weighted = self.total / self.count.clamp(min=1).sqrt()[:, None]
        return self._cleaned((self.upper - outer_products(weighted)) / self.rows)

    def _cleaned(self, upper: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
        return _without_rounding(mirrored(upper), self.upper.diagonal() / self.rows, self.shift)


@dataclasses.dataclass
class ScatterByClass(ClassSums):
    """Sufficient statistics of Gaussians with a covariance for each class.

    In addition to the sums, `scatter` contains the sums of outer products of shifted rows ``[K, D, D]``, or only of
    their squares ``[K, D]``.
    """

    by_class: ClassVar[tuple[str, ...]] = ("count", "total", "scatter")

    scatter: Float[Tensor, "K D D"] | Float[Tensor, "K D"]

    @classmethod
    def empty(cls, shift: Float[Tensor, "D"], diagonal: bool = False) -> Self:
        """Return statistics without rows."""
        sums = ClassSums.empty(shift)
        size = (len(shift),) if diagonal else (len(shift), len(shift))
        return cls(**vars(sums), scatter=sums.shift.new_zeros(0, *size))

    @classmethod
    def of(
        cls,
        features: Float[Tensor, "B D"],
        labels: Int[Tensor, "B"] | None,
        seen: Self | None = None,
        diagonal: bool = False,
    ) -> Self:
        """Add a block of rows ``[B, D]``; with `diagonal`, the scatter ``[K, D]`` contains only squares."""
        if seen is None:
            seen = cls.empty(_start(_known(features, labels)[0]), diagonal)
        return super().of(features, labels, seen)

    def _scatter(self, shifted: Float[Tensor, "B D"], index: Int[Tensor, "B"]) -> None:
        if self.scatter.ndim == 2:
            _add_sums(self.scatter, index, shifted.square())
            return
        for group, padded in _by_class(shifted, index):
            self.scatter.index_add_(0, group, padded.mT @ padded)

    def _moved(self, offset: Float[Tensor, "D"]) -> Self:
        if self.scatter.ndim == 2:
            moved = 2 * self.total * offset + self.count[:, None] * offset.square()
        else:
            cross = self.total[:, :, None] * offset
            moved = cross + cross.mT + self.count[:, None, None] * torch.outer(offset, offset)
        return dataclasses.replace(super()._moved(offset), scatter=self.scatter + moved)

    def covariances(
        self, unbiased: bool = False, part: slice = slice(None)
    ) -> Float[Tensor, "k D D"] | Float[Tensor, "k D"]:
        """Covariances ``[K, D, D]`` or variances ``[K, D]`` of all or some classes, divided by n_c or n_c - 1."""
        count, total, scatter = (getattr(self, name)[part] for name in self.by_class)
        divisor = (count - 1).clamp(min=1) if unbiased else count
        if scatter.ndim == 2:
            variances = (scatter - total.square() / count[:, None]) / divisor[:, None]
            return variances.masked_fill_(_is_rounding(variances, scatter / count[:, None], self.shift), 0)
        mean = total / count.sqrt()[:, None]
        covariances = (scatter - mean[:, :, None] * mean[:, None, :]).div_(divisor[:, None, None])
        squares = scatter.diagonal(dim1=1, dim2=2) / count[:, None]
        return _without_rounding(covariances, squares, self.shift)


def _known(
    features: Float[Tensor, "B D"], labels: Int[Tensor, "B"] | None
) -> tuple[Float[Tensor, "known D"], Int[Tensor, "known"]]:
    """Return the rows that have a class, and their labels; without labels, all rows have class 0."""
    if labels is None:
        labels = torch.zeros(len(features), dtype=torch.long, device=features.device)
    known = labels >= 0
    if not bool(known.all()):
        features, labels = features[known], labels[known]
    return features, labels


def _start(rows: Float[Tensor, "B D"]) -> Float[Tensor, "D"]:
    return rows.double().mean(0) if len(rows) else rows.new_zeros(rows.shape[1], dtype=torch.float64)


def _add_sums(sums: Float[Tensor, "K *D"], index: Int[Tensor, "B"], rows: Float[Tensor, "B *D"]) -> None:
    """Add rows to the sums of their classes; the block's own sums are completed first, and could be added elsewhere."""
    classes, place = index.unique(return_inverse=True)
    sums.index_add_(0, classes, rows.new_zeros(len(classes), *rows.shape[1:]).index_add_(0, place, rows))


def _by_class(
    rows: Float[Tensor, "B D"], labels: Int[Tensor, "B"]
) -> Iterator[tuple[Int[Tensor, "k"], Float[Tensor, "k m D"]]]:
    """Yield groups of classes and their rows padded with zeros to ``[k, m, D]``, with limited memory."""
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


def _is_rounding(
    variances: Float[Tensor, "*K D"], squares: Float[Tensor, "*K D"], shift: Float[Tensor, "D"]
) -> Bool[Tensor, "*K D"]:
    """Return which variances ``[..., D]`` are only rounding errors.

    They are differences of `squares` ``[..., D]``, the mean squares of rows minus `shift` ``[D]``; the difference of a
    constant feature and its mean in float64 can be about 1e-14 of its size.
    """
    return variances <= ROUNDING * (squares + 1e-16 * shift.square())


def _without_rounding(
    covariances: Float[Tensor, "*K D D"], squares: Float[Tensor, "*K D"], shift: Float[Tensor, "D"]
) -> Float[Tensor, "*K D D"]:
    """Set the variance of constant features to exactly 0, in place; 1e-30 would be a direction of tiny variance."""
    constant = _is_rounding(covariances.diagonal(dim1=-2, dim2=-1), squares, shift)
    return covariances.masked_fill_(constant[..., None], 0).masked_fill_(constant[..., None, :], 0)
