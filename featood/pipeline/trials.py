"""Trials without out-of-distribution data: rows to fit on, held-out rows, and pseudo-outliers to tell from them."""

from __future__ import annotations

__all__ = ["CROSSED", "SCALED", "UNSEEN", "Trial", "changed", "make_trials"]

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.metrics.pseudo_outliers import crossed, other_rows

FOLDS = 5
"""Number of parts into which the classes are divided; each is left out of one fit."""
FACTORS = (0.3, 0.7)
"""Range of the factors by which rows are scaled: OOD rows have smaller norms in most networks."""
CROSSED, SCALED, UNSEEN = "crossed", "scaled", "unseen"
"""Kinds of trials."""


class Trial(NamedTuple):
    """Rows that a head is fitted on, and rows that it should tell apart; trials with the same fit share `train`."""

    kind: str
    """``crossed``, ``scaled`` or ``unseen``."""
    train: FeatureSet
    known: FeatureSet
    outliers: FeatureSet


def make_trials(train: FeatureSet, held: FeatureSet, seed: int = 0) -> list[Trial]:
    """Return the trials of a set.

    *Crossed* rows: each feature comes from one of two held-out rows of different classes, and the result is scaled by
    a factor in [0.3, 0.7]. *Scaled* rows: held-out rows times such a factor. Their logits are those of the classifier.
    *Unseen* classes: a fifth of the classes is left out of the fit and of the classifier, and held-out rows of these
    classes are told from the others; five fits, so that each class is left out once.

    Parameters
    ----------
    train, held : FeatureSet
        Rows to fit on, and rows that are not in it. Labels that are missing are those that the logits predict; rows of
        unknown class (a negative label) are not held-out rows, as they may be outliers.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of Trial
        Crossed and scaled rows first; without labels and logits, or with fewer than three classes, there are no others.

    Raises
    ------
    DataError
        If a set has no features, or no held-out row has a known class.

    References
    ----------
    Held-out classes: Neal et al., Open Set Learning with Counterfactual Images, ECCV 2018 (its protocol, which trains
    the network without them, too).
    """
    if not train.features:
        raise DataError(f"{train.name} has no features to make pseudo-outliers from")
    train, held = _labelled(train.to_torch()), _known(_labelled(held.to_torch()))
    generator = torch.Generator().manual_seed(seed)
    trials = [Trial(CROSSED, train, held, crossed_rows(held, generator))]
    if held.labels is not None and train.labels is not None:
        trials += unseen_classes(train, held, generator)
    factors = scales(len(held), generator)
    trials.insert(1, Trial(SCALED, train, held, changed(held, lambda rows: rows * factors)))
    return trials


def unseen_classes(train: FeatureSet, held: FeatureSet, generator: torch.Generator) -> Iterator[Trial]:
    """Yield the trials in which some of the classes are left out; none if there are fewer than three classes."""
    labels = torch.as_tensor(train.labels)
    classes = labels[labels >= 0].unique()
    order = classes[torch.randperm(len(classes), generator=generator)]
    for left_out in order.tensor_split(min(FOLDS, len(order))) if len(order) > 2 else ():
        kept, _ = without_classes(train, left_out)
        known, unseen = without_classes(held, left_out)
        if len(known) and len(unseen):
            yield Trial(UNSEEN, kept, known, unseen)


def crossed_rows(data: FeatureSet, generator: torch.Generator) -> FeatureSet:
    """Return crossed and scaled rows of a set of tensors; all columns have the same partners and factors."""
    classes = None if data.labels is None else torch.as_tensor(data.labels)
    if classes is None or len(classes.unique()) < 2:
        classes = torch.arange(len(data))  # any other row
    partners = other_rows(classes, generator)
    factors = scales(len(data), generator)
    return changed(data, lambda rows: crossed(rows, partners, generator) * factors)


def scales(count: int, generator: torch.Generator) -> Tensor:
    """Draw factors ``[N, 1]``."""
    low, high = FACTORS
    return low + (high - low) * torch.rand(count, 1, generator=generator)


def changed(data: FeatureSet, change: Callable[[Tensor], Tensor]) -> FeatureSet:
    """Return a set of tensors with every column changed, without labels.

    The logits are computed from the changed features by the classifier; without a classifier, they are changed like a
    column.
    """
    columns = {name: change(torch.as_tensor(values).float()) for name, values in data.features.items()}
    logits = data.logits
    if data.classifier is not None and logits is not None:
        weight, bias = (torch.as_tensor(part).double() for part in data.classifier)
        logits = (columns[data.main].double() @ weight.T + bias).float()
    elif logits is not None:
        logits = change(torch.as_tensor(logits).float())
    return dataclasses.replace(data, features=columns, logits=logits, labels=None, ids=None, content="")


def without_classes(data: FeatureSet, left_out: Tensor) -> tuple[FeatureSet, FeatureSet]:
    """Return the rows of other classes, and those of the classes left out, as a classifier of the others sees them.

    The columns of the logits and the classifier of the classes left out are removed, and the labels numbered anew.
    """
    labels, logits = torch.as_tensor(data.labels), data.logits
    count = data.num_classes or 1 + int(max(labels.max(), left_out.max()))
    kept = torch.ones(count, dtype=torch.bool)
    kept[left_out] = False
    numbers = torch.where(kept, kept.cumsum(0) - 1, -1)
    outside = torch.isin(labels, left_out)
    others: dict[str, Any] = {
        "labels": torch.where(labels >= 0, numbers[labels.clamp(min=0)], labels),
        "logits": None if logits is None else torch.as_tensor(logits)[:, kept],
        "classifier": None
        if data.classifier is None
        else tuple(torch.as_tensor(part)[kept] for part in data.classifier),
    }
    seen = dataclasses.replace(data, content="", classes=(), **others)
    return seen.rows(~outside), seen.rows(outside)


def _known(data: FeatureSet) -> FeatureSet:
    if data.labels is None:
        return data
    known = torch.as_tensor(data.labels) >= 0
    if not known.any():
        raise DataError(f"no held-out row of {data.name} has a known class; give rows with labels")
    return data.rows(known)


def _labelled(data: FeatureSet) -> FeatureSet:
    """Return the set with the predicted classes as labels, if it has none."""
    if data.labels is not None or data.logits is None:
        return data
    return dataclasses.replace(data, labels=torch.as_tensor(data.logits).argmax(1))
