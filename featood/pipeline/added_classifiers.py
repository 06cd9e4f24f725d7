"""A linear classifier for features without one: a linear probe, or a given one such as embeddings of class names."""

from __future__ import annotations

__all__ = ["CLASSIFIED", "add_classifier", "classify_like", "fit_classifier"]

import hashlib
from typing import Any

import numpy as np

from featood.cache import FeatureCache, FeatureSet
from featood.cache.feature_set import Classifier
from featood.errors import DataError
from featood.extractors.backbones import RANDOM
from featood.pipeline.computed_sets import store_computed
from featood.pipeline.selection import select
from featood.reporter import SILENT, Reporter

CLASSIFIED = "classifier"
"""Kind of backbone in the recipe of such a set."""
TOLERANCE, STEPS = 1e-6, 1000
"""Largest gradient of the mean loss after a fit, and largest number of its iterations."""


def add_classifier(
    cache: FeatureCache,
    name: str,
    backbone: str,
    *,
    dataset: str = "",
    feature: str = "",
    classifier: Classifier | None = None,
    unit: bool = False,
    l2: float = 1.0,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> list[FeatureSet]:
    """Add sets with one column of features and its logits for every split of a dataset.

    Parameters
    ----------
    cache : FeatureCache
        Contains the features; the new sets are added to it.
    name : str
        Backbone name of the new sets.
    backbone, dataset : str
        Whose sets to classify; see :func:`featood.pipeline.selection.select`.
    feature : str
        The column of features, by default the main one.
    classifier : Classifier, optional
        Weight ``[C, D]`` and bias ``[C]``; by default, :func:`fit_classifier` on the training split.
    unit : bool
        Scale the rows of features to length 1 first.
    l2 : float
        See :func:`fit_classifier`.
    overwrite : bool
        Replace sets of this name that have another classifier.
    reporter : Reporter
        Receives a line about the classifier.

    Raises
    ------
    DataError
        If the classifier does not fit the features, or cannot be fitted.
    Mismatch
        If the cache contains other sets of this name.
    """
    selection = select(cache, backbone, dataset)
    train = selection.open(selection.train_split(""))
    feature = feature or train.main
    width = train.feature(feature).shape[1]
    if classifier is None:
        reporter.line(f"fitting a classifier on the column {feature} of {train.name} ({len(train)} rows)")
        classifier = fit_classifier(train, feature, unit=unit, l2=l2)
    weight, bias = (np.asarray(part, "f4") for part in classifier)
    if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
        raise DataError(
            f"a classifier of weight {list(weight.shape)} and bias {list(bias.shape)} does not fit the column "
            f"{feature} of {train.name}: it needs [C, {width}] and [C]"
        )
    if train.classes and len(train.classes) != len(weight):
        reporter.line(
            f"warning: the classifier has {len(weight)} classes, and {train.name} {len(train.classes)}"
        )
    return [
        _classified(cache, name, selection.open(split), Classifier(weight, bias), feature, unit, overwrite)
        for split in selection.entries
    ]


def classify_like(
    cache: FeatureCache, reference: FeatureSet, source: FeatureSet, *, overwrite: bool = False, role: str = ""
) -> FeatureSet:
    """Add a set with the classifier of another one, from features of the same backbone; see :func:`add_classifier`."""
    assert reference.classifier is not None
    name, recipe = reference.name.split("/")[0], reference.recipe
    linear = Classifier(*reference.classifier)
    return _classified(cache, name, source, linear, recipe["main"], recipe["unit"], overwrite, role)


def fit_classifier(
    train: FeatureSet, feature: str = "", *, unit: bool = False, l2: float = 1.0
) -> Classifier:
    """Fit multinomial logistic regression to features: weight ``[C, D]`` and bias ``[C]``.

    The features are standardised for the fit, by scikit-learn. The loss is the sum of the cross-entropy over rows of
    known classes, plus ``l2 / 2`` times the sum of the squared weights of the standardised features.

    Parameters
    ----------
    train : FeatureSet
        Features ``[N, D]`` and labels, which are read completely.
    feature : str
        The column of features, by default the main one.
    unit : bool
        Scale the rows of features to length 1 first.
    l2 : float
        Weight of the squares; ``1 / C`` of scikit-learn for more than two classes.

    Raises
    ------
    DataError
        If there are no labels, or a class has no rows.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if train.labels is None:
        raise DataError(f"{train.name} has no labels to fit a classifier to; give one with --classifier FILE")
    labels = np.asarray(train.labels[:])
    counts = np.bincount(labels[labels >= 0], minlength=max(len(train.classes), 2))
    if absent := np.flatnonzero(counts == 0).tolist():
        raise DataError(f"{train.name} has no rows of class {absent[0]}, so a classifier cannot be fitted")
    rows = _features(train, feature, slice(None), unit)[labels >= 0]
    scaler = StandardScaler().fit(rows)
    # for two classes, scikit-learn has one row: the difference of two opposite ones, whose squares sum to half of its
    penalty = l2 / 2 if len(counts) == 2 else l2
    model = LogisticRegression(C=1 / penalty, tol=TOLERANCE, max_iter=STEPS).fit(
        scaler.transform(rows), labels[labels >= 0]
    )
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        weight, bias = (np.concatenate([-part, part]) / 2 for part in (weight, bias))
    weight = weight / scaler.scale_
    return Classifier(weight.astype("f4"), (bias - weight @ scaler.mean_).astype("f4"))


def _classified(
    cache: FeatureCache,
    name: str,
    source: FeatureSet,
    classifier: Classifier,
    feature: str,
    unit: bool,
    overwrite: bool = False,
    role: str = "",
) -> FeatureSet:
    assert source.origin is not None
    weight, bias = classifier
    digest = hashlib.sha256(np.concatenate([weight, bias[:, None]], 1).tobytes()).hexdigest()
    recipe = {
        "backbone": CLASSIFIED, "members": [source.fingerprint], "main": feature, "unit": unit,
        "classifier_sha256": digest,
    }  # fmt: skip
    run: dict[str, Any] = {"members": [source.name.split("/")[0]]}
    if source.origin.random_weights:
        run["weights"] = RANDOM

    def compute(rows: slice) -> dict[str, np.ndarray]:
        values = _features(source, feature, rows, unit)
        return {feature: values, "logits": values @ weight.T + bias}

    widths = {feature: weight.shape[1], "logits": len(weight)}
    return store_computed(
        cache,
        name,
        source,
        widths,
        compute,
        recipe,
        run=run,
        classifier=classifier,
        overwrite=overwrite,
        role=role,
    )


def _features(source: FeatureSet, feature: str, rows: slice, unit: bool) -> np.ndarray:
    """Return rows of a column in float32, scaled to length 1 if `unit`; a row of zeros stays zero."""
    values = np.asarray(source.feature(feature)[rows], dtype="f4")
    if not unit:
        return values
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1)
