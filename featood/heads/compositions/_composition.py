"""Base class of compositions: members that are fitted together, and a calibration of their scores."""

from __future__ import annotations

__all__ = ["Composition"]

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.errors import DataError, UsageError
from featood.heads.base.fit import Fit, FitContext, FitRecord, Learned, State, collect_warnings
from featood.heads.base.head import Head
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks
from featood.heads.compositions._members import create_member, format_member
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class Composition(Head):
    """A head that composes the scores of others.

    A subclass implements `learn_scores` (from the members' scores of training rows to tensors) and `combine` (from
    these tensors and the members' scores of a block to one score).
    """

    composes: ClassVar[bool] = True
    members: tuple[str, ...] = option(
        ("energy", "mahalanobis", "knn"),
        "heads to compose, with options as in 'knn k=50' or a preset as in 'heat-el preset=cifar100'; "
        "featood fit also takes auto, see featood recommend",
    )
    sample: int = option(10_000, "number of training rows on which the members' scores are calibrated", low=1)
    seed: int = option(0, "seed for sampling these rows", low=0, high=2**32 - 1)

    def resolve_options(self) -> Mapping[str, Any]:
        """Store all options of the members: defaults may change, the options of a saved head must not."""
        if isinstance(self.members, str) or not self.members:
            raise UsageError(f"{self.name}: members lists the heads to compose, such as knn,energy")
        return {"members": tuple(format_member(head) for head in self.create_members())}

    @property
    def needs(self) -> tuple[str, ...]:
        """The inputs that the members need."""
        return tuple(sorted({need for head in self.create_members() for need in head.needs}))

    def learn_scores(self, scores: Tensor) -> State:
        """Turn the members' scores ``[N, K]`` of training rows into the tensors that `combine` needs."""
        raise NotImplementedError

    def combine(self, scores: Tensor, calibration: State) -> Tensor:
        """Turn the members' scores ``[B, K]`` into one ``[B]``."""
        raise NotImplementedError

    def create_members(self) -> list[Head]:
        """Create the members, unfitted."""
        return [create_member(text, self.nonfinite) for text in self.members]

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the columns of all members."""
        return list(
            dict.fromkeys(column for head in self.create_members() for column in head.columns(source))
        )

    @classmethod
    def of(cls, heads: Sequence[Head], train: Any, **options: Any) -> Self:
        """Compose fitted heads; see :func:`featood.heads.compositions.compose.compose`."""
        composed = cls(members=tuple(format_member(head) for head in heads), **options)
        source = as_feature_set(train)
        for head in heads:
            head.check_match(source)
        rows = composed.select(source, fitting=True, device=heads[0].device)
        with collect_warnings() as notes:
            state = composed.join(heads, rows)
        notes += [f"{head.name}: {note}" for head in heads for note in head.record.notes]
        # a set that a member was tuned or trained on is not a valid test set for the composition either
        tuned = [head.record.tuned for head in heads if head.record.tuned is not None]
        tuned += [old for head in heads for old in head.record.members_tuned or ()]
        record = FitRecord.of(source, rows, notes, members_tuned=tuple(tuned))
        return composed.adopt(Fit(state, record, heads[0].device))

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Fit every member, then learn from their scores."""
        heads = self.create_members()
        for number, head in enumerate(heads):
            if head.learns:
                folder = context.checkpoint and context.checkpoint / f"{number}-{head.name}"
                part = dataclasses.replace(context, checkpoint=folder)
                head.fit(train.source, context=part, device=str(train.device))
        return Learned(self.join(heads, train))

    def join(self, heads: Sequence[Head], train: SelectedRows) -> State:
        """Return the members' tensors, and what was learned from their scores on the sample."""
        with torch.no_grad():
            parts = [_scores(heads, block) for block in sampled_blocks(train, self.sample, self.seed)]
        if not parts:
            raise DataError(f"{self.name}: the sample has no usable row; raise --sample")
        scores = torch.cat(parts)
        self._check(heads, scores)
        state = self.learn_scores(scores)
        for number, head in enumerate(heads):
            state |= {f"{number}.{name}": tensor for name, tensor in head.state.items()}
        return state

    def prepare(self, state: State) -> Any:
        """Restore the members' tensors."""
        heads = self.create_members()
        for number, head in enumerate(heads):
            prefix = f"{number}."
            own = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
            head.adopt(Fit(own, self.record, self.device))
            _ = head.prepared  # raises if the tensors do not match the options
        return heads, state

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the composed score ``[B]``."""
        heads, state = fitted
        return self.combine(_scores(heads, block), state)

    def _check(self, heads: Sequence[Head], scores: Tensor) -> None:
        """Raise on non-finite training scores, and warn if a member's scores are constant."""
        for head, spread in zip(heads, scores.std(0, correction=0).tolist(), strict=True):
            if not math.isfinite(spread):
                raise DataError(
                    f"{self.name}: {head.name} gives non-finite scores on training rows; remove it from members"
                )
            if spread == 0:
                warnings.warn(
                    f"{self.name}: {head.name} gives all training rows the same score", stacklevel=2
                )


def _scores(heads: Sequence[Head], block: FeatureSet) -> Tensor:
    """Return the scores ``[B, K]`` of all members in float64."""
    return torch.stack([head.score_checked(block).double() for head in heads], 1)
