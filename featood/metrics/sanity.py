"""Checks for contradictions between accuracy and confidence of a classifier, and their likely causes.

The thresholds were measured on published networks for CIFAR-10 and CIFAR-100, with inputs preprocessed as in training
and differently; the figures are in `doubts`.
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
"""Minimum number of labelled rows for a check."""
ORDER_GAP, GAP = 0.1, 0.25
"""Difference of confidence and accuracy, beyond two standard errors, to search another class order, and to warn."""
UNIFORM = 0.05, 2
"""Maximum excess of the mean confidence over 1/C of an untrained network: absolute, and as a multiple of 1/C."""
UNLIKELY = 1e-3
"""Probability below which a number of correct predictions is not attributed to chance."""
MOST_CELLS = 1 << 22
"""Maximum size of the table of classes by predictions to which an order is fitted."""
BLOCK = 1 << 22
"""Number of logits in memory at once."""


class _Predictions(NamedTuple):
    """Predictions for the rows that have a label, arrays ``[M]``, and the number of outputs."""

    labels: Int[np.ndarray, "M"]
    predicted: Int[np.ndarray, "M"]
    confidence: float
    outputs: int

    @property
    def accuracy(self) -> float:
        return float((self.labels == self.predicted).mean())

    def gap(self, errors: float = 2) -> float:
        """Mean confidence minus accuracy, minus a multiple of its standard error."""
        accuracy = self.accuracy
        variance = max(accuracy * (1 - accuracy), 1 / len(self.labels))
        return self.confidence - accuracy - errors * float(np.sqrt(variance / len(self.labels)))

    @property
    def facts(self) -> str:
        return f"accuracy {self.accuracy:.3f} although the mean confidence is {self.confidence:.2f}"


def doubts(logits: Any, labels: Any, classes: Sequence[str] = ()) -> list[str]:
    """Return one line for each likely error in labels, inputs or weights.

    The check distinguishes labels in another class order (and gives the accuracy with that order), labels of other
    images, an untrained network, one class predicted for nearly every row, labels beyond the outputs, and inputs
    preprocessed differently from training.

    The last is detected by a gap of more than 0.25 between mean confidence and accuracy. For ResNet-20, ResNet-56 and
    DenseNet-BC on CIFAR-10, the gap is 0.03 to 0.05, for DenseNet-BC on CIFAR-100 0.12; without normalisation it is
    0.34 to 0.52, upside down 0.39 to 0.47, magnified by a third 0.35 to 0.40, normalised twice or from 0 to 255 more
    than 0.48. Changes that cost less accuracy are not detected: on CIFAR-10, mean and standard deviation of another
    set (0.03 to 0.07), blue and red exchanged (0.08 to 0.11), and grey images (0.07 to 0.09).

    Parameters
    ----------
    logits : array of shape [N, C]
        Read in blocks, in one pass; rows that are not finite are left out.
    labels : integer array of shape [N]
        Negative for rows without a label, which are left out.
    classes : sequence of str
        Names of the classes in the order of the labels, if known.

    Returns
    -------
    list of str
        Empty if no error is found, for fewer than 50 rows with a label, and for arrays that are not logits and labels,
        as this check only warns and never raises.
    """
    try:
        seen = _read(logits, labels)
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError):
        return []
    if seen is None or len(seen.labels) < FEWEST:
        return []
    names = [str(name) for name in classes]
    if (top := int(seen.labels.max())) >= seen.outputs:
        found = _numbered_from_one(seen) or "check that the labels belong to the classes of this network"
        return [
            f"labels reach {top}, but the network has {seen.outputs} outputs, 0 to {seen.outputs - 1}: {found}"
        ]
    found = _untrained(seen) or _another_order(seen, names) or _one_class(seen) or _contradiction(seen)
    return [found] if found else []


def _read(logits: Any, labels: Any) -> _Predictions | None:
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
    return _Predictions(kept, predicted, float(confidence.mean()) if len(confidence) else 0.0, outputs)


def _near_chance(seen: _Predictions) -> bool:
    """Return whether predictions are independent of the labels; False if most labels are of one class."""
    size, rows = seen.outputs, len(seen.labels)
    counts = np.bincount(seen.labels, minlength=size)
    chance = float(counts @ np.bincount(seen.predicted, minlength=size)) / rows**2
    correct = int((seen.labels == seen.predicted).sum())
    return bool(counts.max() < 0.75 * rows) and float(bdtrc(correct - 1, rows, chance)) > UNLIKELY


def _untrained(seen: _Predictions) -> str:
    uniform = 1 / seen.outputs
    if seen.confidence > uniform + min(UNIFORM[0], UNIFORM[1] * uniform) or not _near_chance(seen):
        return ""
    return (
        f"accuracy {seen.accuracy:.3f} is at chance level, and the mean confidence {seen.confidence:.3f} is hardly "
        f"more than 1/{seen.outputs}: the network seems untrained; check that its weights are loaded"
    )


# ---- class orders ---------------------------------------------------------------------------------------


def _another_order(seen: _Predictions, names: Sequence[str]) -> str:
    if seen.gap() < ORDER_GAP:
        return ""
    known = [(_accuracy_with(seen, order), what) for order, what in _orders(seen.outputs, names)]
    best, what = max(known, default=(0.0, ""))
    if _explains(seen, best):
        return f"{seen.facts}: the labels follow {what}; corrected, accuracy would be {best:.3f}; give --class-order"
    best, order = _fit_order(seen)
    if not _explains(seen, best):
        return ""
    pairs = [
        f"{_named(label, names)} looks like output {output}" for label, output in order if label != output
    ]
    which = ", ".join(pairs[:3]) + (", ..." if len(pairs) > 3 else "")
    count = len(order)
    if count < seen.outputs and seen.labels.max() == count - 1:
        return (
            f"{seen.facts}: the labels renumber {count} of the {seen.outputs} classes; with the outputs' numbers, "
            f"accuracy would be {best:.3f} ({which}); give --class-order"
        )
    return (
        f"{seen.facts}: the labels follow another class order; corrected, accuracy would be {best:.3f} ({which}); "
        "give --class-order"
    )


def _explains(seen: _Predictions, accuracy: float) -> bool:
    """Return whether an accuracy closes half of the gap, and more than chance would."""
    gain = accuracy - seen.accuracy
    least = max((seen.confidence - seen.accuracy) / 2, ORDER_GAP)
    return gain > 3 / math.sqrt(2 * len(seen.labels)) and gain > least


def _named(label: int, names: Sequence[str]) -> str:
    return f"label {label} ({names[label]})" if label < len(names) else f"label {label}"


def _orders(outputs: int, names: Sequence[str]) -> Iterator[tuple[Int[np.ndarray, "C"], str]]:
    """Iterate over common mistakes: the output ``[C]`` of each label, and a description."""
    numbers = np.arange(outputs)
    text = np.array(sorted(range(outputs), key=str))
    yield text, f"the text order of 0 to {outputs - 1} (0, 1, 10, ...)"
    yield (
        text.argsort(),
        f"the numeric order, but the outputs follow the text order of 0 to {outputs - 1} (0, 1, 10, ...)",
    )
    yield numbers - 1, "a count from 1, one more than the outputs"
    yield numbers + 1, "a count that is one less than the outputs"
    yield numbers[::-1], "the reversed order"
    if len(names) == outputs:
        alphabetical = np.argsort(np.array(names), kind="stable")
        yield (
            alphabetical,
            "the alphabetical order of the names, but the outputs follow the order in which they are listed",
        )
        yield (
            alphabetical.argsort(),
            "the order in which the names are listed, but the outputs follow their alphabetical order",
        )


def _accuracy_with(seen: _Predictions, order: Int[np.ndarray, "C"]) -> float:
    """Return the accuracy if `order` gives the output of each label."""
    return float((order[seen.labels] == seen.predicted).mean())


def _fit_order(seen: _Predictions) -> tuple[float, list[tuple[int, int]]]:
    """Return the cross-validated accuracy of a fitted order, and the order fitted to all rows as pairs.

    An assignment can be fitted to any rows, so its accuracy is measured on the half of the rows not used in the fit.
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
        matched, columns = linear_sum_assignment(counts, maximize=True)
        order[matched] = np.where(counts[matched, columns] > 0, columns, -1)
        return order

    correct = [(fit(~part)[labels[part]] == predicted[part]).sum() for part in (half, ~half)]
    order = fit(np.ones_like(half))
    pairs = [
        (int(label), int(outputs[index])) for label, index in zip(classes, order, strict=True) if index >= 0
    ]
    return float(sum(correct) / len(labels)), pairs


def _numbered_from_one(seen: _Predictions) -> str:
    accuracy = float((seen.labels - 1 == seen.predicted).mean())
    within = seen.labels.min() >= 1 and seen.labels.max() == seen.outputs
    if not within or accuracy - seen.accuracy <= ORDER_GAP:
        return ""
    return f"they seem to count from 1 (minus 1, accuracy would be {accuracy:.3f}); labels must count from 0"


# ---- other causes -----------------------------------------------------------------------------------------


def _one_class(seen: _Predictions) -> str:
    counts = np.bincount(seen.predicted, minlength=seen.outputs)
    top = int(counts.argmax())
    share, own = counts[top] / len(seen.predicted), float((seen.labels == top).mean())
    if share < 0.95 or seen.gap() < GAP:
        return ""
    rows = "every row" if share == 1 else f"{share:.0%} of the rows"
    return (
        f"class {top} is predicted for {rows}, of which {own:.0%} are of that class: inputs are preprocessed very "
        "differently from training (0 to 255 instead of 0 to 1, mean and standard deviation), or the network is not "
        "trained for them"
    )


def _contradiction(seen: _Predictions) -> str:
    near = _near_chance(seen)
    if seen.gap() < GAP:
        # with few rows, or an overconfident weak classifier, accuracy may be near chance too
        most = seen.accuracy + 2 * float(np.sqrt(0.25 / len(seen.labels)))
        if not near or seen.gap(errors=4) < 0 or most > 1 / seen.outputs + ORDER_GAP:
            return ""
        return (
            f"accuracy {seen.accuracy:.3f} is at chance level, below the mean confidence {seen.confidence:.2f}: the "
            "network seems untrained, or the labels belong to other images"
        )
    if near and _same_frequencies(seen):
        few = len(seen.labels) < 4 * len(np.unique(seen.labels))
        order = (
            ", or follow another class order, which cannot be found with so few rows per class" if few else ""
        )
        return (
            f"{seen.facts}, although labels and predictions have the same frequencies: the labels look shuffled; they "
            f"are in another order than the rows, or belong to other images{order}"
        )
    return (
        f"{seen.facts}: such a gap is usual for inputs preprocessed differently from training (mean and standard "
        "deviation, 0 to 255 instead of 0 to 1, size or crop, channel order), and for sets selected or made to be "
        "hard, such as ImageNet-A"
    )


def _same_frequencies(seen: _Predictions) -> bool:
    """Return whether the sorted frequencies of predicted classes are similar to those of the labels."""
    counts = [np.sort(np.bincount(part, minlength=seen.outputs)) for part in (seen.labels, seen.predicted)]
    distance = np.abs(counts[0] - counts[1]).sum() / 2 / len(seen.labels)
    return bool(distance < 0.15 + np.sqrt(seen.outputs / len(seen.labels)) / 4)
