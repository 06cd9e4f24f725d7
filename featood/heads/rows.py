"""The rows a head sees: only the columns it needs, checked for values that are not finite."""

from __future__ import annotations

__all__ = ["SelectedRows"]

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from featood.cache.feature_set import ROWS, Classifier, FeatureSet
from featood.errors import DataError


class SelectedRows:
    """A FeatureSet as a head consumes it: blocks of tensors on one device.

    Parameters
    ----------
    source : FeatureSet
        Where the rows come from.
    columns : sequence of str
        Columns to read.
    nonfinite : str
        ``error`` refuses NaN and infinities; ``drop`` leaves such rows out.
    known_only : bool
        Leave out rows with a negative label, which mark outliers.
    device : torch.device
        Where the blocks go.
    """

    def __init__(
        self,
        source: FeatureSet,
        columns: Sequence[str],
        nonfinite: str = "error",
        known_only: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source = source.select(*columns)
        self.nonfinite = nonfinite
        self.known_only = known_only and self.source.labels is not None
        self.device = torch.device(device)

    @property
    def main(self) -> str:
        """Name of the column that feeds the classifier."""
        return self.source.main

    @property
    def classifier(self) -> Classifier:
        """Weight ``[C, D]`` and bias ``[C]`` as float32 tensors."""
        if self.source.classifier is None:
            raise DataError(f"{self.source.name} comes without the classifier's weight and bias")
        weight, bias = (torch.as_tensor(part, device=self.device).float() for part in self.source.classifier)
        return Classifier(weight, bias)

    @property
    def num_classes(self) -> int:
        """Number of classes: of the classifier, else one more than the largest label."""
        if self.source.num_classes is not None:
            return self.source.num_classes
        if self.source.labels is None or not len(self.source):
            return 1
        return int(self.source.labels[:].max()) + 1

    def masked_blocks(self, size: int = ROWS) -> Iterator[tuple[FeatureSet, Tensor]]:
        """Iterate over blocks without the rows to leave out, each with the mask ``[B]`` of those kept.

        Raises
        ------
        DataError
            At a value that is not finite (unless such rows are dropped), or a label beyond the classes.
        """
        start = 0
        for block in self.source.blocks(size):
            keep = self._keep(block, start)
            start += len(block)
            yield _moved(block if bool(keep.all()) else block.rows(keep), self.device), keep

    def blocks(self, size: int = ROWS) -> Iterator[FeatureSet]:
        """Iterate over blocks of at most `size` rows; raises as :meth:`masked_blocks`, and where no row is left."""
        empty = True
        for block, _ in self.masked_blocks(size):
            if len(block):
                empty = False
                yield block
        if empty:
            raise DataError(
                f"{self.source.name}: no row is left to fit on (all labels are negative, or no row is finite)"
            )

    def load(self) -> FeatureSet:
        """Return all rows at once, for heads that keep or revisit them."""
        parts = list(self.blocks())

        def join(values: list[Tensor | None]) -> Tensor | None:
            return None if values[0] is None else torch.cat([value for value in values if value is not None])

        return FeatureSet(
            {name: join([part.features[name] for part in parts]) for name in parts[0].features},  # type: ignore[misc]
            logits=join([part.logits for part in parts]),  # type: ignore[misc]
            labels=join([part.labels for part in parts]),  # type: ignore[misc]
            classifier=self.source.classifier,
            main=self.main,
            name=self.source.name,
        )

    def _keep(self, block: FeatureSet, start: int) -> Tensor:
        finite = finite_rows(block)
        bad = int((~finite).sum())
        if bad:
            where = f"{self.source.name}: {bad} rows hold NaN or infinite values"
            if self.nonfinite == "error":
                row = start + int(torch.nonzero(~finite)[0])
                raise DataError(f"{where} (first: row {row}); mend them, or use --nonfinite drop")
            warnings.warn(f"{where} and were left out", stacklevel=2)
        if self.source.labels is None or not len(block):
            return finite
        labels = torch.as_tensor(block.labels)
        limit = self.source.num_classes
        if limit is not None and int(labels.max()) >= limit:
            raise DataError(
                f"{self.source.name}: label {int(labels.max())} is beyond the classifier's {limit} classes"
            )
        return finite & (labels >= 0) if self.known_only else finite


def finite_rows(block: FeatureSet) -> Tensor:
    """Tell which rows of a block are finite in every column ``[B]``."""
    finite = torch.ones(len(block), dtype=torch.bool)
    columns = [*block.features.values(), *([] if block.logits is None else [block.logits])]
    for values in columns:
        finite &= torch.isfinite(values[:]).all(1).cpu()
    return finite


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
