"""Heads as scikit-learn estimators."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import featood.sklearn
from featood.heads import create_head, head_class
from featood.sklearn import estimators

SLOW = [name for name, cls in estimators().items() if head_class(cls.head).trains]
CHECKED = [*(name for name in estimators() if name not in SLOW), "MLP", "RealNVP", "Autoencoder"]


def small(name):
    """Make an estimator, with few updates if it trains a network."""
    cls = estimators()[name]
    options = {
        key: value for key, value in head_class(cls.head).testing_options.items() if key != "batch_size"
    }
    return cls(**({**options, "batch_size": 64, "epochs": 3} if name in SLOW else options))


WITHOUT_LABELS = dict.fromkeys(
    ("check_outliers_train", "check_outliers_fit_predict", "check_fit_score_takes_y"),
    "scikit-learn tests outlier detectors without labels, which this head needs",
)


@pytest.mark.parametrize("name", CHECKED)
def test_scikit_learn_accepts_the_estimator(name):
    estimator = small(name)
    expected = WITHOUT_LABELS if estimator.needs_labels else {}
    found = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    failures = [(one["check_name"], one["exception"]) for one in found if one["status"] == "failed"]
    assert not failures, failures[:3]
    assert sum(one["status"] == "passed" for one in found) > 30


@pytest.mark.parametrize("name", SLOW)
def test_heads_that_train_fit_score_clone_and_pickle(name):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    rows = rng.normal(size=(150, 4)) + 3 * labels[:, None]
    detector = small(name).fit(rows, np.array(["a", "b", "c"])[labels])
    scores = detector.score_samples(rows)
    assert scores.shape == (150,) and np.isfinite(scores).all()
    assert (detector.predict(rows) == -1).mean() == pytest.approx(0.05, abs=0.02)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(detector)).score_samples(rows), scores, rtol=1e-6)
    assert clone(detector).get_params() == detector.get_params()


def test_scores_have_the_sign_of_scikit_learn():
    rng = np.random.default_rng(0)
    rows, far = rng.normal(size=(200, 3)), 9 + rng.normal(size=(20, 3))
    detector = featood.sklearn.KNN(k=5, space="none", contamination=0.1).fit(rows)
    distances, _ = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors(far)
    np.testing.assert_allclose(detector.score_samples(far), -distances[:, -1], rtol=1e-4)
    assert (detector.predict(far) == -1).all() and (detector.predict(rows) == -1).sum() == 20
    np.testing.assert_array_equal(
        detector.head_.score(far), create_head("knn", k=5, space="none").fit(rows).score(far)
    )


def test_pipelines_and_grids():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    rows = rng.normal(size=(300, 5)) * [1, 10, 1, 1, 1] + 3 * labels[:, None]
    odd = rng.random(300) < 0.2
    rows[odd] += 8 * rng.normal(size=(int(odd.sum()), 5))

    def auroc(estimator, x, y):
        from sklearn.metrics import roc_auc_score

        return roc_auc_score(y, estimator.score_samples(x))

    grid = GridSearchCV(
        make_pipeline(StandardScaler(), featood.sklearn.KNN()), {"knn__k": [1, 5, 20]}, scoring=auroc, cv=3
    ).fit(rows, (~odd).astype(int))
    assert grid.best_params_["knn__k"] in (1, 5, 20) and grid.best_score_ > 0.8
    assert len(cross_val_score(featood.sklearn.Mahalanobis(), rows, labels, scoring=auroc, cv=3)) == 3


def test_mistakes():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        featood.sklearn.Nothing  # noqa: B018
    with pytest.raises(TypeError, match="unexpected keyword argument 'kk'"):
        featood.sklearn.KNN(kk=3)
    with pytest.raises(ValueError, match="requires y to be passed"):
        featood.sklearn.Mahalanobis().fit(np.zeros((9, 2)))
    with pytest.raises(ValueError, match="k must be"):
        featood.sklearn.KNN(k=0).fit(np.zeros((9, 2)))
