"""Detectors that move to another network."""

import numpy as np
import pytest
from scipy import stats

from featood.cache import FeatureCache
from featood.errors import DataError
from featood.heads import create_head
from featood.pipeline.detectors import Detector, make_detector
from featood.pipeline.detectors.migration import migrate_detector
from featood.pipeline.extraction import ImageSource, Network, extract_dataset

OLD = Network("lenet", "random", seed=3, image_size=28)
NEW = Network("cifar-resnet20", "random", seed=4, image_size=28)
SOURCE = ImageSource("digits", ("test",))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a cache with the features that both networks have of the test images."""
    found = FeatureCache(tmp_path_factory.mktemp("migration"))
    for network in (OLD, NEW):
        extract_dataset(found, SOURCE, network)
    return found


def detector_of(cache, name, **options):
    features = cache["lenet@random/digits/test"]
    head = create_head(name, **options).fit(features.rows(slice(0, 250)))
    return make_detector(head.calibrate(features, 0.9, force=True), features)


def halves(rows, seed):
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[: round(rows / 2)]), np.sort(order[round(rows / 2) :])


def test_the_head_is_fitted_and_calibrated_on_features_of_the_other_network(cache, tmp_path):
    detector, features = detector_of(cache, "knn", k=7), cache["cifar-resnet20@random/digits/test"]
    found = migrate_detector(detector, SOURCE, NEW, seed=5)
    fitted, others = halves(len(features), 5)
    expected = create_head("knn", k=7).fit(features.rows(fitted)).score(features.rows(others))
    np.testing.assert_allclose(found.detector.calibration.scores, expected, rtol=1e-4)
    assert found.fitted == len(fitted) and found.detector.calibration.record["alarm_rate"] == 0.1
    old = cache["lenet@random/digits/test"].rows(others)
    before = detector.head.score(old)
    assert found.flagged_before == np.mean(before > detector.calibration.thresholds[0])
    assert found.rank_correlation == pytest.approx(stats.spearmanr(expected, before).statistic, abs=1e-3)
    again = Detector.load(found.detector.save(tmp_path / "moved"))
    assert again.head.options["k"] == 7


def test_classes_are_predicted_by_the_network(cache):
    lines = []
    reporter = type("Lines", (), {"line": lines.append, "task": lambda *_: None})()
    features = cache["cifar-resnet20@random/digits/test"]
    found = migrate_detector(detector_of(cache, "cosine"), SOURCE, NEW, reporter=reporter)
    fitted, others = halves(len(features), 0)
    rows = features.rows(fitted)
    head = create_head("cosine").fit(rows.features[rows.main][:], rows.logits[:].argmax(1))
    expected = head.score(features.features[features.main][:][others])
    np.testing.assert_allclose(found.detector.calibration.scores, expected, rtol=1e-4)
    assert any("fitted on the classes that the network predicts" in line for line in lines)


def test_all_images_calibrate_a_head_that_does_not_learn(cache):
    found = migrate_detector(detector_of(cache, "msp"), SOURCE, NEW)
    assert found.fitted == 0
    assert found.detector.calibration.record["rows"] == len(cache["lenet@random/digits/test"])


def test_too_few_images_are_refused(cache, tmp_path):
    from PIL import Image

    for row in range(8):
        Image.new("L", (28, 28), 20 * row).save(tmp_path / f"{row}.png")
    with pytest.raises(DataError, match="4 calibration rows are too few"):
        migrate_detector(detector_of(cache, "knn", k=1), ImageSource(str(tmp_path)), NEW)
