"""Hypothesis strategies for names, manifests, FeatureSets and scores, for tests of heads, metrics and stores.

Example
-------
A property that must hold for any input::

    @hypothesis.given(featood.testing.strategies.set_pairs(labels="classes"))
    def test_scores_are_finite(pair):
        train, test = pair
        assert np.isfinite(create_head("mahalanobis").fit(train).score(test)).all()
"""

from __future__ import annotations

__all__ = [
    "GEOMETRIES",
    "LABELS",
    "encoded_ids",
    "feature_sets",
    "keys",
    "manifests",
    "names",
    "score_pairs",
    "set_pairs",
    "stored_values",
]

from collections.abc import Callable
from typing import Any

import numpy as np

from featood.cache import Classifier, ColumnSpec, FeatureSet, Manifest, slug
from featood.cache.reader import encode_ids
from featood.errors import UsageError
from featood.testing.drawing import st

FLOATS = ("float16", "float32", "float64")
SPECIAL = (0.0, -0.0, 1.0, -1.0, 5e-324, 1e-45, 6e-8, 65504.0, -65504.0)
"""Values that a wrong copy changes: signed zeros, subnormal numbers of each type, the largest float16."""

Rows = Callable[[np.random.Generator, int, int], np.ndarray]


def _normal(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    return rng.normal(size=(rows, size)) + 2 * (np.arange(rows)[:, None] % 3 == np.arange(size) % 3)


def _constant_columns(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    return np.where(np.arange(size) % 2 == 0, 3.0, _normal(rng, rows, size))


def _copied_columns(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    return _normal(rng, rows, size)[:, np.arange(size) // 2]


def _copied_rows(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    return _normal(rng, rows, size)[np.arange(rows) // 3]


def _heavy_tails(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    return rng.standard_t(1.5, size=(rows, size)).clip(-6e4, 6e4)


GEOMETRIES: dict[str, Rows] = {
    "normal": _normal,
    "rectified": lambda rng, rows, size: _normal(rng, rows, size).clip(0),
    "constant columns": _constant_columns,
    "copied columns": _copied_columns,
    "copied rows": _copied_rows,
    "one point": lambda rng, rows, size: np.repeat(_normal(rng, 1, size), rows, 0),
    "zeros": lambda rng, rows, size: np.zeros((rows, size)),
    "low rank": lambda rng, rows, size: rng.normal(size=(rows, 1)) * rng.normal(size=size),
    "heavy tails": _heavy_tails,
    "offset": lambda rng, rows, size: _normal(rng, rows, size) + 1e4,
    "small": lambda rng, rows, size: 1e-3 * _normal(rng, rows, size),
    "large": lambda rng, rows, size: 1e3 * _normal(rng, rows, size),
    "vast": lambda rng, rows, size: 1e18 * _normal(rng, rows, size),
    "special": lambda rng, rows, size: rng.choice(SPECIAL, (rows, size)),
}
"""Generators of rows ``[N, D]`` by name."""

LABELS = ("classes", "one each", "odd numbers", "some unknown", "none")
"""Kinds of labels: 0 to C - 1; one class per row; large class numbers; some negative labels; no labels."""


def names() -> st.SearchStrategy[str]:
    """Names of backbones, datasets and splits, in any script, that can be converted to folder names."""

    def usable(name: str) -> bool:
        try:
            return slug(name).lower() != "heads" and "/" not in name
        except UsageError:
            return False

    plain = st.sampled_from(["net", "timm:resnet50.a1_in1k", "toy data", "test", "train", "Größe-1", "a@b+c"])
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
    return (plain | text).filter(usable)


def keys() -> st.SearchStrategy[str]:
    """Keys of sets: ``backbone/dataset/split``."""
    return st.tuples(names(), names(), names()).map("/".join)


@st.composite
def manifests(
    draw: st.DrawFn,
    rows: st.SearchStrategy[int] | None = None,
    block_rows: st.SearchStrategy[int] | None = None,
    stores: tuple[str, ...] = ("zarr", "hdf5"),
    recipe: int | None = None,
) -> Manifest:
    """Manifests of sets with a few columns and blocks.

    Parameters
    ----------
    rows, block_rows : strategy of int
        Number of rows, and rows per block; by default 1 to 24 and 1 to 10.
    stores : tuple of str
        Stores to choose from.
    recipe : int, optional
        Number that distinguishes recipes.

    Returns
    -------
    strategy of Manifest
        With the column ``avg`` and optionally ``layer1.avg`` (float16, 32 or 64), logits, labels and ids.
    """
    vectors = st.builds(
        lambda size, dtype: ColumnSpec((size,), dtype), st.integers(1, 5), st.sampled_from(FLOATS)
    )
    columns = {"avg": draw(vectors)}
    if draw(st.booleans()):
        columns["layer1.avg"] = draw(vectors)
    if draw(st.booleans()):
        columns["logits"] = ColumnSpec((draw(st.integers(1, 4)),), "float32")
    if draw(st.booleans()):
        columns["labels"] = ColumnSpec((), "int64")
    if draw(st.booleans()):
        columns["ids"] = ColumnSpec((draw(st.sampled_from([16, 24])),), "uint8")
    return Manifest(
        recipe={"backbone": "net", "variant": draw(st.integers(0, 2)) if recipe is None else recipe},
        data={"dataset": "toy", "split": "test", "inputs_sha256": "0" * 64},
        columns=columns,
        rows=draw(st.integers(1, 24) if rows is None else rows),
        store=draw(st.sampled_from(stores)),
        main="avg",
        block_rows=draw(st.integers(1, 10) if block_rows is None else block_rows),
        versions={"featood": "1"},
    )


def stored_values(manifest: Manifest, seed: int) -> dict[str, np.ndarray]:
    """Generate values ``[N, ...]`` for all columns of a manifest, including special ones, reproducibly for a seed."""
    values: dict[str, np.ndarray] = {}
    for number, (name, spec) in enumerate(manifest.columns.items()):
        rng = np.random.default_rng([seed, number])
        shape = (manifest.rows, *spec.shape)
        if name == "ids":
            values[name] = encoded_ids(manifest.rows, *spec.shape)
        elif np.dtype(spec.dtype).kind == "f":
            some = rng.random(shape) < 0.2
            values[name] = np.where(some, rng.choice(SPECIAL, shape), rng.normal(size=shape)).astype(
                spec.dtype
            )
        else:
            values[name] = rng.integers(-2, 4, shape).astype(spec.dtype)
    return values


def encoded_ids(rows: int, width: int) -> np.ndarray:
    """Generate encoded ids ``[N, width]`` in several scripts."""
    return encode_ids(_ids(rows), width)


def _ids(rows: int) -> list[str]:
    return [("row-{}.png", "Größe/{}", "図{}", "🙂{}")[row % 4].format(row) for row in range(rows)]


@st.composite
def set_pairs(
    draw: st.DrawFn,
    rows: st.SearchStrategy[int] | None = None,
    sizes: st.SearchStrategy[int] | None = None,
    classes: st.SearchStrategy[int] | None = None,
    dtypes: tuple[str, ...] = FLOATS,
    geometries: tuple[str, ...] = tuple(GEOMETRIES),
    labels: str | None = None,
    logits: bool | None = None,
    classifier: bool | None = None,
    ids: bool | None = None,
) -> tuple[FeatureSet, FeatureSet]:
    """Pairs of a training and a test set of one backbone, of any size, type, geometry and kind of labels.

    They include more features than rows, more classes than rows, one row, one feature, one class, and columns that
    are constant in the training set but not in the test set.

    Parameters
    ----------
    rows, sizes, classes : strategy of int
        N of each set, D, and C; by default 1 to 30, 1 to 12 and 1 to 6.
    dtypes : tuple of str
        Types of the features to choose from.
    geometries : tuple of str
        Names of :data:`GEOMETRIES` to choose from.
    labels : str, optional
        One of :data:`LABELS`; by default any.
    logits, classifier, ids : bool, optional
        Whether the sets have them; by default either. With a classifier, labels are below C.

    Returns
    -------
    strategy of (FeatureSet, FeatureSet)
        Columns ``avg``, ``layer1.avg`` and ``layer2.avg`` ``[N, D]``; logits ``[N, C]`` and classifier in float32.
    """
    count = st.integers(1, 30) if rows is None else rows
    size = draw(st.integers(1, 12) if sizes is None else sizes)
    outputs = draw(st.integers(1, 6) if classes is None else classes)
    dtype = draw(st.sampled_from(dtypes))
    kind = draw(st.sampled_from(LABELS)) if labels is None else labels
    with_classifier = draw(st.booleans()) if classifier is None else classifier
    with_logits = draw(st.booleans()) if logits is None else logits
    with_ids = draw(st.booleans()) if ids is None else ids
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    linear = Classifier(rng.normal(size=(outputs, size)).astype("f4"), rng.normal(size=outputs).astype("f4"))

    def one(name: str) -> FeatureSet:
        n = draw(count)
        end = float(np.finfo(dtype).max)
        features = {
            column: GEOMETRIES[draw(st.sampled_from(geometries))](rng, n, size).clip(-end, end).astype(dtype)
            for column in ("avg", "layer1.avg", "layer2.avg")
        }
        avg = features["avg"].astype(float)
        return FeatureSet(
            features,
            logits=(avg @ linear.weight.T + linear.bias).astype("f4") if with_logits else None,
            labels=_labels(kind, n, outputs, bounded=with_classifier or with_logits),
            ids=np.array(_ids(n)) if with_ids else None,
            classifier=linear if with_classifier else None,
            fingerprint="f" * 64,
            name=f"drawn/{name}",
        )

    return one("train"), one("test")


def _labels(kind: str, rows: int, classes: int, bounded: bool) -> np.ndarray | None:
    """Return labels ``[N]`` of a kind; if `bounded`, they are below the number of classes."""
    order = np.arange(rows)
    if kind == "none":
        return None
    if kind == "some unknown":
        return np.where(order % 3 == 1, -1 - order % 2, order % classes)
    if kind == "one each" and not bounded:
        return order
    if kind == "odd numbers" and not bounded:
        return np.array([7, 250_000, 10**9])[order % min(3, classes)]
    return order % classes


def feature_sets(**options: Any) -> st.SearchStrategy[FeatureSet]:
    """FeatureSets in memory, with the options of :func:`set_pairs`."""
    return set_pairs(**options).map(lambda pair: pair[0])


@st.composite
def score_pairs(draw: st.DrawFn, most: int = 40, special: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of scores ``[N]`` and ``[M]`` of known rows and of outliers, float64 and finite.

    Parameters
    ----------
    most : int
        Maximum number of rows of each.
    special : bool
        Whether zeros of both signs, subnormal and very large numbers occur; ties and constants always do.
    """
    values = st.integers(-4, 4).map(float) | st.floats(-1e6, 1e6)
    if special:
        edges = (0.0, -0.0, 5e-324, -5e-324, 1.0, np.nextafter(1.0, 2.0), 1e300, -1e300)
        values = values | st.sampled_from(edges)
    lists = st.lists(values, min_size=1, max_size=most)
    constant = st.builds(lambda value, n: [value] * n, values, st.integers(1, most))
    either = lists | constant
    return np.array(draw(either), dtype=float), np.array(draw(either), dtype=float)
