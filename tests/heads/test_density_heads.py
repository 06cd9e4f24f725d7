"""Heads on densities: the same scores by loops over rows."""

import math

import numpy as np
import pytest

from featood.cache import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head

RNG = np.random.default_rng(0)


def columns(rows=30, **more):
    named = {name: (RNG.normal(-900, 50, (rows, 1))).astype("f4") for name in ("log-density", "complexity")}
    return FeatureSet({**named, **more})


@pytest.mark.parametrize("name", ["log-density", "evidence-bound", "energy"])
def test_typicality_is_the_distance_from_the_mean_of_the_training_rows(name):
    train, test = (FeatureSet({name: RNG.normal(-900, 50, (rows, 1)).astype("f4")}) for rows in (40, 9))
    sign = -1 if name == "energy" else 1
    logs = [sign * float(value) for value in train.features[name][:, 0]]
    mean = sum(logs) / len(logs)
    expected = [abs(sign * float(value) - mean) for value in test.features[name][:, 0]]
    head = create_head("typicality").fit(train)
    np.testing.assert_allclose(head.score(test), expected, rtol=1e-6)
    parts = create_head("typicality")
    for rows in (slice(0, 7), slice(7, 40)):
        parts.partial_fit(FeatureSet({name: train.features[name][rows]}))
    np.testing.assert_allclose(parts.score(test), expected, rtol=1e-6)
    likely = create_head("likelihood").score(test)
    np.testing.assert_allclose(likely, [-sign * float(value) for value in test.features[name][:, 0]])


def test_a_density_is_one_number_for_each_row():
    wide = FeatureSet({"log-density": np.zeros((5, 2), "f4")})
    for name in ("typicality", "likelihood"):
        with pytest.raises(DataError, match="has 2 numbers for each row"):
            create_head(name).fit(wide).score(wide)


def test_input_complexity_is_the_difference_in_bits():
    for name in ("log-density", "evidence-bound"):
        test = FeatureSet(
            {name: columns().features["log-density"], "complexity": columns().features["complexity"]}
        )
        expected = [
            -math.log2(math.e) * float(density) - float(bits)
            for density, bits in zip(
                test.features[name][:, 0], test.features["complexity"][:, 0], strict=True
            )
        ]
        np.testing.assert_allclose(create_head("input-complexity").score(test), expected, rtol=1e-6)
    one = np.array([[-64 * math.log(2)]])  # a density of 2^-64 and a file of 64 bits
    found = create_head("input-complexity").score(
        FeatureSet({"log-density": one, "complexity": one * 0 + 64})
    )
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_energies_are_not_compared_with_bits():
    values = np.zeros((5, 1), "f4")
    for options in ({}, {"feature": "energy"}):
        test = FeatureSet({"energy": values, "complexity": values})
        with pytest.raises(
            DataError, match=r"input-complexity: the column energy .* cannot be compared with bits"
        ):
            create_head("input-complexity", **options).score(test)
    with pytest.raises(UsageError, match=r"no feature column 'complexity'.*--with"):
        create_head("input-complexity").score(FeatureSet({"log-density": values}))


def test_the_likelihood_ratio_is_that_to_the_background():
    for name, sign in (("log-density", 1), ("evidence-bound", 1), ("energy", -1)):
        values = {key: RNG.normal(-900, 50, (9, 1)).astype("f4") for key in (name, f"background.{name}")}
        expected = [
            -(sign * float(own) - sign * float(other))
            for own, other in zip(values[name][:, 0], values[f"background.{name}"][:, 0], strict=True)
        ]
        np.testing.assert_allclose(
            create_head("likelihood-ratio").score(FeatureSet(values)), expected, rtol=1e-6
        )
    with pytest.raises(DataError, match=r"no column background.energy: extract with --background FOLDER"):
        create_head("likelihood-ratio").score(FeatureSet({"energy": values["energy"]}))
    mixed = FeatureSet({"evidence-bound": values["energy"], "background.log-density": 2 * values["energy"]})
    with pytest.raises(DataError, match=r"but background.log-density: name it by --background"):
        create_head("likelihood-ratio").score(mixed)
    named = create_head("likelihood-ratio", background="background.log-density").score(mixed)
    np.testing.assert_allclose(named, values["energy"][:, 0], rtol=1e-6)


def test_waic_is_the_mean_less_the_variance_over_members():
    for name, sign in (("log-density", 1), ("evidence-bound", 1), ("energy", -1)):
        values = RNG.normal(-900, 5, (9, 4)).astype("f4")
        expected = []
        for row in values:
            logs = [sign * float(value) for value in row]
            mean = sum(logs) / 4
            expected.append(-(mean - sum((log - mean) ** 2 for log in logs) / 4))
        found = create_head("waic").score(FeatureSet({f"ensemble.{name}": values}))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(DataError, match=r"waic: .* has no densities of several networks: join"):
        create_head("waic").score(columns())
    with pytest.raises(DataError, match="log-density has one number for each row"):
        create_head("waic", feature="log-density").score(columns())
