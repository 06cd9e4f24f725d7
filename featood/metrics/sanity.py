"""Whether accuracy and confidence of a classifier contradict each other, and what usually lies behind it.

What each doubt rests on was measured on published networks for CIFAR-10 and CIFAR-100 with their inputs prepared as in
training and otherwise; `doubts` has the figures.
"""

from __future__ import annotations

__all__ = ["doubts"]

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from scipy.special import bdtrc

FEWEST = 50
"""Labelled rows below which nothing is said."""
ORDER_GAP, GAP = 0.1, 0.25
"""How far accuracy must lie below confidence, beyond two standard errors, to look for another order, and to warn."""
UNIFORM = 0.05, 2
"""Excess of the mean confidence over 1/C up to which it says nothing: this much, but at most so many times 1/C."""
UNLIKELY = 1e-3
"""Probability under which as many right predictions are not put down to chance."""
MOST_CELLS = 1 << 22
"""Largest table of classes by predictions that an order is fitted to."""
BLOCK = 1 << 22
"""Logits that are looked at together."""


class _Seen(NamedTuple):
    """What the logits say of the rows that have a label: arrays ``[M]``, and the number of outputs."""

    labels: Int[np.ndarray, "M"]
    predicted: Int[np.ndarray, "M"]
    confidence: float
    outputs: int

    @property
    def accuracy(self) -> float:
        return float((self.labels == self.predicted).mean())

    def gap(self, errors: float = 2) -> float:
        """Mean confidence less accuracy, less some standard errors of that."""
        accuracy = self.accuracy
        spread = max(accuracy * (1 - accuracy), 1 / len(self.labels))
        return self.confidence - accuracy - errors * float(np.sqrt(spread / len(self.labels)))

    @property
    def facts(self) -> str:
        return f"accuracy {self.accuracy:.3f} although the mean confidence is {self.confidence:.2f}"


def doubts(logits: Any, labels: Any, classes: Sequence[str] = ()) -> list[str]:
    """Say in one line each what is likely wrong with labels, inputs or weights; nothing where all seems well.

    Told apart are labels in another class order (with the accuracy that the order would give), labels that belong to
    other images, an untrained network, one class predicted for nearly every row, labels beyond the outputs, and
    inputs prepared otherwise than in training.

    The last is told by a gap of more than 0.25 between mean confidence and accuracy. Of ResNet-20, ResNet-56 and
    DenseNet-BC on CIFAR-10 the gap is 0.03 to 0.05, of DenseNet-BC on CIFAR-100 0.12; without normalisation it is 0.34
    to 0.52, upside down 0.39 to 0.47, magnified by a third 0.35 to 0.40, normalised twice or from 0 to 255 more than
    0.48. A change that costs less accuracy is not caught: on CIFAR-10 another set's mean and deviation (0.03 to 0.07),
    blue and red exchanged (0.08 to 0.11), and grey images (0.07 to 0.09).

    Parameters
    ----------
    logits : array of shape [N, C]
        Read in blocks, in one pass; rows that are not finite are left out.
    labels : integer array of shape [N]
        Negative for rows without a label, which are left out.
    classes : sequence of str
        Names of the classes in the order of the labels, where they are known.

    Returns
    -------
    list of str
        Empty for fewer than 50 rows that have a label, and for arrays that are not logits and their labels: to refuse
        those is not the business of a check that only warns.
    """
    try:
        seen = _look(logits, labels)
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError):
        return []
    if seen is None or len(seen.labels) < FEWEST:
        return []
    names = [str(name) for name in classes]
    if (top := int(seen.labels.max())) >= seen.outputs:
        found = _numbered_from_one(seen) or "check that the labels are those of this network's classes"
        return [
            f"labels reach {top}, but the network has {seen.outputs} outputs, 0 to {seen.outputs - 1}: {found}"
        ]
    found = _untrained(seen) or _another_order(seen, names) or _one_class(seen) or _contradiction(seen)
    return [found] if found else []


def _look(logits: Any, labels: Any) -> _Seen | None:
    labels = np.asarray(labels[:])
    shape = np.shape(logits)
    if len(shape) != 2 or shape[1] < 2 or labels.shape != shape[:1] or labels.dtype.kind not in "iub":
        return None
    labels, outputs = labels.astype(np.int64), int(shape[1])
    size = max(1, BLOCK // outputs)
    parts = []
    for start in range(0, len(labels), size):
        values = np.asarray(logits[start : start + size], dtype=np.float64)
        rows = np.flatnonzero(np.isfinite(values).all(1) & (labels[start : start + size] >= 0))
        values = values[rows]
        predicted = values.argmax(1)
        confidence = 1 / np.exp(values - values.max(1, keepdims=True)).sum(1)
        parts.append((labels[start : start + size][rows], predicted, confidence))
    if not parts:
        return None
    kept, predicted, confidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Seen(kept, predicted, float(confidence.mean()) if len(confidence) else 0.0, outputs)


def _near_chance(seen: _Seen) -> bool:
    """Tell whether predictions have nothing to do with labels, which must be of several classes to tell."""
    size, rows = seen.outputs, len(seen.labels)
    counts = np.bincount(seen.labels, minlength=size)
    chance = float(counts @ np.bincount(seen.predicted, minlength=size)) / rows**2
    right = int((seen.labels == seen.predicted).sum())
    return bool(counts.max() < 0.75 * rows) and float(bdtrc(right - 1, rows, chance)) > UNLIKELY


def _untrained(seen: _Seen) -> str:
    uniform = 1 / seen.outputs
    if seen.confidence > uniform + min(UNIFORM[0], UNIFORM[1] * uniform) or not _near_chance(seen):
        return ""
    return (
        f"accuracy {seen.accuracy:.3f} is that of chance, and the mean confidence {seen.confidence:.3f} is little more "
        f"than 1/{seen.outputs}: the network seems untrained; check that it has its weights"
    )


# ---- class orders ---------------------------------------------------------------------------------------


def _another_order(seen: _Seen, names: Sequence[str]) -> str:
    if seen.gap() < ORDER_GAP:
        return ""
    known = [(_under(seen, order), what) for order, what in _orders(seen.outputs, names)]
    best, what = max(known, default=(0.0, ""))
    if _explains(seen, best):
        return f"{seen.facts}: the labels follow {what}, under which accuracy would be {best:.3f}; give --class-order"
    best, order = _fitted(seen)
    if not _explains(seen, best):
        return ""
    pairs = [
        f"{_named(label, names)} looks like output {output}" for label, output in order if label != output
    ]
    which = ", ".join(pairs[:3]) + (", ..." if len(pairs) > 3 else "")
    count = len(order)
    if count < seen.outputs and seen.labels.max() == count - 1:
        return (
            f"{seen.facts}: the labels number {count} of the {seen.outputs} classes anew, under whose own numbers "
            f"accuracy would be {best:.3f} ({which}); give --class-order"
        )
    return (
        f"{seen.facts}: the labels follow another class order, under which accuracy would be {best:.3f} ({which}); "
        "give --class-order"
    )


def _explains(seen: _Seen, accuracy: float) -> bool:
    """Tell whether an accuracy makes up for half of the gap, and for more than chance would."""
    gain = accuracy - seen.accuracy
    least = max((seen.confidence - seen.accuracy) / 2, ORDER_GAP)
    return gain > 3 / math.sqrt(2 * len(seen.labels)) and gain > least


def _named(label: int, names: Sequence[str]) -> str:
    return f"label {label} ({names[label]})" if label < len(names) else f"label {label}"


def _orders(outputs: int, names: Sequence[str]) -> Iterator[tuple[Int[np.ndarray, "C"], str]]:
    """Iterate over orders that occur by mistake: the output ``[C]`` of each label, and what to call them."""
    every = np.arange(outputs)
    text = np.array(sorted(range(outputs), key=str))
    yield text, f"the text order of 0 to {outputs - 1} (0, 1, 10, ...)"
    yield (
        text.argsort(),
        f"the numeric order, and the outputs the text order of 0 to {outputs - 1} (0, 1, 10, ...)",
    )
    yield every - 1, "a count from 1, one more than the outputs'"
    yield every + 1, "a count that is one less than the outputs'"
    yield every[::-1], "the reversed order"
    if len(names) == outputs:
        alphabetical = np.argsort(np.array(names), kind="stable")
        yield alphabetical, "their own order, and the outputs that of these numbers after sorting the names"
        yield (
            alphabetical.argsort(),
            "an order other than the alphabetical one of their names, which is the outputs'",
        )


def _under(seen: _Seen, order: Int[np.ndarray, "C"]) -> float:
    """Accuracy if each label stands for the output that an order says."""
    return float((order[seen.labels] == seen.predicted).mean())


def _fitted(seen: _Seen) -> tuple[float, list[tuple[int, int]]]:
    """Fit an order to each half of the rows, and return its accuracy on the other half, and that of all as pairs.

    An assignment finds some order in any rows; only on rows that it was not fitted to does its accuracy mean anything.
    """
    from scipy.optimize import linear_sum_assignment

    classes, labels = np.unique(seen.labels, return_inverse=True)
    outputs, predicted = np.unique(seen.predicted, return_inverse=True)
    shape = len(classes), len(outputs)
    if shape[0] * shape[1] > MOST_CELLS:
        return 0.0, []
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0

    def fit(rows: Bool[np.ndarray, "M"]) -> Int[np.ndarray, "K"]:
        counts = np.zeros(shape)
        np.add.at(counts, (labels[rows], predicted[rows]), 1)
        order = np.full(shape[0], -1)
        places, chosen = linear_sum_assignment(counts, maximize=True)
        order[places] = np.where(counts[places, chosen] > 0, chosen, -1)
        return order

    right = [(fit(~part)[labels[part]] == predicted[part]).sum() for part in (half, ~half)]
    order = fit(np.ones_like(half))
    pairs = [
        (int(label), int(outputs[place])) for label, place in zip(classes, order, strict=True) if place >= 0
    ]
    return float(sum(right) / len(labels)), pairs


def _numbered_from_one(seen: _Seen) -> str:
    accuracy = float((seen.labels - 1 == seen.predicted).mean())
    within = seen.labels.min() >= 1 and seen.labels.max() == seen.outputs
    if not within or accuracy - seen.accuracy <= ORDER_GAP:
        return ""
    return f"they seem to count from 1 (one less, accuracy would be {accuracy:.3f}); labels count from 0"


# ---- what no order explains -------------------------------------------------------------------------------


def _one_class(seen: _Seen) -> str:
    counts = np.bincount(seen.predicted, minlength=seen.outputs)
    top = int(counts.argmax())
    share, own = counts[top] / len(seen.predicted), float((seen.labels == top).mean())
    if share < 0.95 or seen.gap() < GAP:
        return ""
    rows = "every row" if share == 1 else f"{share:.0%} of the rows"
    return (
        f"class {top} is predicted for {rows}, of which {own:.0%} are of that class: inputs are prepared quite "
        "otherwise than in training (0 to 255 in place of 0 to 1, mean and deviation), or the network is not trained "
        "for them"
    )


def _contradiction(seen: _Seen) -> str:
    near = _near_chance(seen)
    if seen.gap() < GAP:
        # few rows, or a weak classifier that is too sure of itself, may come near chance too
        most = seen.accuracy + 2 * float(np.sqrt(0.25 / len(seen.labels)))
        if not near or seen.gap(errors=4) < 0 or most > 1 / seen.outputs + ORDER_GAP:
            return ""
        return (
            f"accuracy {seen.accuracy:.3f} is that of chance, below the mean confidence {seen.confidence:.2f}: the "
            "network seems untrained, or the labels belong to other images"
        )
    if near and _alike(seen):
        few = len(seen.labels) < 4 * len(np.unique(seen.labels))
        order = "they follow another class order, which too few rows a class tell, are" if few else "they are"
        return (
            f"{seen.facts}, and predictions come as often as labels but elsewhere: the labels look shuffled; {order} "
            "in another order than the rows, or belong to other images"
        )
    return (
        f"{seen.facts}: a gap this wide is usual for inputs prepared otherwise than in training (mean and deviation, 0 "
        "to 255 in place of 0 to 1, size or crop, channel order), and for sets chosen or made to be hard, such as "
        "ImageNet-A"
    )


def _alike(seen: _Seen) -> bool:
    """Tell whether the shares of the predicted classes, whichever these are, are like those of the labels."""
    shares = [np.sort(np.bincount(part, minlength=seen.outputs)) for part in (seen.labels, seen.predicted)]
    apart = np.abs(shares[0] - shares[1]).sum() / 2 / len(seen.labels)
    return bool(apart < 0.15 + np.sqrt(seen.outputs / len(seen.labels)) / 4)
