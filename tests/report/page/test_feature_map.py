import numpy as np
import pytest
from sklearn.decomposition import PCA

from featood.cache import FeatureSet
from featood.report import projections
from featood.report.page.feature_map import chosen_rows, map_points

RNG = np.random.default_rng(0)


def test_the_plane_is_that_of_scikit_learn():
    points = RNG.normal(size=(60, 7)) * np.arange(1, 8) + 3
    ((name, plane),) = projections(points).items()
    expected = PCA(2).fit(points)
    share = expected.explained_variance_ratio_.sum()
    assert name == f"PCA, {100 * share:.0f} % of the variance"
    # the sign of a component is arbitrary
    np.testing.assert_allclose(np.abs(plane), np.abs(expected.transform(points)), atol=1e-9)


def test_features_of_two_dimensions_are_not_projected():
    points = RNG.normal(size=(10, 2))
    assert projections(points)["features"] is points


@pytest.mark.parametrize("points", [np.zeros((2, 5)), np.full((9, 5), np.nan)], ids=["few", "NaN"])
def test_points_without_a_projection(points):
    assert projections(points) == {}


@pytest.mark.parametrize(
    "points", [np.zeros((9, 5)), RNG.normal(size=(9, 1))], ids=["constant", "one column"]
)
def test_degenerate_points_have_finite_coordinates(points):
    (plane,) = projections(points).values()
    assert plane.shape == (9, 2) and np.isfinite(plane).all()


def test_umap_is_reproducible():
    pytest.importorskip("umap.umap_")
    points = RNG.normal(size=(40, 6))
    first, second = (projections(points, umap=True)["UMAP"] for _ in range(2))
    assert first.shape == (40, 2)
    np.testing.assert_array_equal(first, second)


def test_rows_are_read_evenly_from_each_set():
    sets = {name: FeatureSet({"avg": RNG.normal(size=(n, 3))}) for name, n in (("a", 5000), ("b", 9))}
    sets["c"] = FeatureSet({"other": np.zeros((4, 3))})
    rows = chosen_rows(sets, total=30)
    assert len(rows["a"]) == 15 and rows["b"].tolist() == list(range(9)) and "c" not in rows
    points = map_points(sets, rows)
    expected = [sets[name].features["avg"][rows[name]] for name in rows]
    np.testing.assert_array_equal(points, np.concatenate(expected))
    assert chosen_rows({"bare": FeatureSet(logits=np.zeros((3, 2)))}) == {}
