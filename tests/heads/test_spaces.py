"""The space of features: against scikit-learn, in every head that offers it, and read from earlier artefacts."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize

from featood import FeatureSet, create_head, list_heads, load_head
from featood.errors import CacheCorrupt, DataError, Mismatch, NotFitted, UsageError
from featood.heads.artefacts.earlier import earlier_state
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.compositions.compose import compose
from featood.heads.registry import head_class, register
from featood.numerics.spaces import FITTED, REDUCED, SPACES, apply_space, fit_space
from featood.sealed import digest, seal

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 400)
MIXING = RNG.normal(size=(5, 5)) * [3, 1, 0.3, 2, 0.1]
ROWS = (RNG.normal(size=(400, 5)) @ MIXING + 6 * np.eye(5)[LABELS] + 40).astype(np.float32)
OTHERS = (RNG.normal(size=(60, 5)) * 9 + 40).astype(np.float32)


def by_sklearn(kind, train, rows, components=0):
    """Rows in a space, by scikit-learn in float64."""
    train, rows = train.astype(float), rows.astype(float)
    if kind.startswith("l2"):
        train, rows = normalize(train), normalize(rows)
    if kind.endswith("standardize"):
        return StandardScaler().fit(train).transform(rows)
    if kind in REDUCED:
        pca = PCA(components or None).fit(train)
        scale = pca.explained_variance_ * (len(train) - 1) / len(train)
        return pca.transform(rows) / (np.sqrt(scale) if kind == "l2-whiten" else 1)
    return rows


def blocks(rows, size=64):
    return torch.from_numpy(rows).split(size)


def same_up_to_signs(found, expected, **tolerance):
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, **tolerance)


@pytest.mark.parametrize("components", [0, 3])
@pytest.mark.parametrize("kind", SPACES)
def test_agrees_with_scikit_learn(kind, components):
    if components and kind not in REDUCED:
        with pytest.raises(UsageError, match="components are for the spaces l2-whiten and pca"):
            fit_space(kind, blocks(ROWS), components)
        return
    fitted = fit_space(kind, blocks(ROWS), components)
    assert sorted(fitted) == sorted(FITTED.get(kind, ()))
    found = apply_space(kind, fitted, torch.from_numpy(OTHERS)).numpy()
    same_up_to_signs(found, by_sklearn(kind, ROWS, OTHERS, components), rtol=1e-6, atol=1e-8)
    if kind == "none":
        assert np.shares_memory(found, OTHERS)
    else:
        assert found.dtype == np.float64


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_whitened_rows_have_the_identity_for_covariance(scale, offset):
    rows = ROWS.astype(np.float64) * scale + offset * scale
    fitted = fit_space("l2-whiten", blocks(rows))
    white = apply_space("l2-whiten", fitted, torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(5), atol=1e-5)


def test_dead_directions_are_left_out_or_kept_in_their_own_unit():
    rows = np.column_stack([ROWS, ROWS[:, 0] * 2, np.full(400, 7.0)]).astype(np.float64)
    alive = rows[:3].copy()
    alive[:, 6] = [7, 8, 57]
    for kind, spanned in (("pca", 5), ("l2-whiten", 6)):  # divided by its length, a constant varies
        with pytest.warns(UserWarning, match=f"space {kind}: the rows vary in {spanned} of 7 directions"):
            fitted = fit_space(kind, blocks(rows))
        assert fitted["axes"].shape == (7, spanned)
    same = apply_space("pca", fit_space("pca", blocks(rows), 5), torch.from_numpy(alive))
    assert torch.allclose(
        same, apply_space("pca", fit_space("pca", blocks(rows), 5), torch.from_numpy(rows[:3]))
    )
    found = apply_space("standardize", fit_space("standardize", blocks(rows)), torch.from_numpy(alive))
    np.testing.assert_allclose(found[:, 6], [0, 1, 50], atol=1e-12)
    with pytest.raises(UsageError, match="vary in 5 of 7 directions; components must not be 6"):
        fit_space("pca", blocks(rows), 6)


@pytest.mark.parametrize("kind", REDUCED)
def test_rows_that_are_all_alike_have_no_components(kind):
    with pytest.raises(DataError, match="are identical"):
        fit_space(kind, blocks(np.ones((9, 3))))
    with pytest.raises(DataError, match="no rows"):
        fit_space(kind, [])


def test_a_row_of_zeros_keeps_its_length():
    assert not apply_space("l2", {}, torch.zeros(1, 3)).any()


def test_every_head_on_features_that_leaves_the_classifier_alone_has_the_option():
    for name, card in list_heads().items():
        cls = head_class(name)
        if not issubclass(cls, FeatureHead):
            continue
        offered = "space" in create_head(name).options
        assert offered != issubclass(cls, RawFeatures), name
        if "classifier" in card.needs:
            assert not offered, name
        assert "standardize" not in create_head(name).options and "normalize" not in create_head(name).options


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gmm", {}),
        ("gmm", {"covariance": "tied"}),
        ("mahalanobis", {}),
        ("knn", {"k": 5}),
        ("lof", {}),
        ("radial-flow", {"epochs": 2, "layers": 3, "validation": 0.0}),
    ],
)
@pytest.mark.parametrize("kind", SPACES)
def test_a_head_in_a_space_is_the_head_on_rows_brought_there(name, options, kind, tmp_path):
    components = 4 if kind in REDUCED else 0
    fitted = fit_space(kind, blocks(ROWS), components)
    there = {
        key: apply_space(kind, fitted, torch.from_numpy(x)) for key, x in (("in", ROWS), ("out", OTHERS))
    }
    plain = create_head(name, **options, space="none").fit(there["in"].numpy(), LABELS)
    head = create_head(name, **options, space=kind, components=components).fit(ROWS, LABELS)
    np.testing.assert_allclose(head.score(OTHERS), plain.score(there["out"].numpy()), rtol=2e-5, atol=1e-6)
    assert {key for key in head.state if key.startswith("space.")} == {f"space.{key}" for key in fitted}
    np.testing.assert_array_equal(load_head(head.save(tmp_path / "head")).score(OTHERS), head.score(OTHERS))


@pytest.mark.parametrize("kind", SPACES)
def test_rows_added_in_parts(kind):
    head = create_head("gmm", space=kind)
    if kind in FITTED:
        with pytest.raises(UsageError, match=f"the space {kind} must be fitted on all rows first; use fit"):
            head.partial_fit(ROWS[:200], LABELS[:200])
        return
    head.partial_fit(ROWS[200:], LABELS[200:]).partial_fit(ROWS[:200], LABELS[:200])
    np.testing.assert_allclose(
        head.score(OTHERS), create_head("gmm", space=kind).fit(ROWS, LABELS).score(OTHERS), rtol=1e-6
    )


def test_rows_of_no_class_do_not_shape_the_space():
    mixed = FeatureSet(
        {"features": np.concatenate([ROWS, 1e3 * OTHERS])}, labels=np.r_[LABELS, np.full(60, -1)]
    )
    head = create_head("gmm", space="l2-whiten").fit(mixed)
    np.testing.assert_array_equal(
        head.score(OTHERS), create_head("gmm", space="l2-whiten").fit(ROWS, LABELS).score(OTHERS)
    )


def test_a_refit_that_fails_leaves_the_space_as_it_was():
    head = create_head("gmm", space="standardize").fit(ROWS, LABELS)
    before = head.score(OTHERS)
    with pytest.raises(DataError, match="are identical"):
        head.fit(np.ones((50, 5)), LABELS[:50])
    np.testing.assert_array_equal(head.score(OTHERS), before)


def test_members_of_a_composition_look_at_their_own_spaces(tmp_path):
    members = [create_head("gmm", space=kind).fit(ROWS, LABELS) for kind in ("standardize", "l2-whiten")]
    members.append(create_head("knn", k=3).fit(ROWS, LABELS))
    whole = compose(members, FeatureSet({"features": ROWS}, labels=LABELS))
    scores = np.stack([head.score(OTHERS) for head in members], 1)
    train = np.stack([head.score(ROWS) for head in members], 1)
    expected = ((scores - train.mean(0)) / train.std(0, ddof=0)).sum(1)
    np.testing.assert_allclose(whole.score(OTHERS), expected, rtol=1e-6)
    np.testing.assert_array_equal(
        load_head(whole.save(tmp_path / "whole")).score(OTHERS), whole.score(OTHERS)
    )


def test_a_head_without_a_fit_needs_one_for_a_fitted_space():
    np.testing.assert_allclose(create_head("norm", space="l2").score(OTHERS), -1, rtol=1e-6)
    head = create_head("norm", space="standardize")
    with pytest.raises(NotFitted):
        head.score(OTHERS)
    expected = -np.linalg.norm(by_sklearn("standardize", ROWS, OTHERS), axis=1)
    np.testing.assert_allclose(head.fit(ROWS).score(OTHERS), expected, rtol=1e-6)


def test_a_head_of_others_on_the_classifier_refuses_another_space():
    needs = ("features", "classifier")

    @register("space-probe", title="", paper="", year=2000, needs=needs, learns=False)
    class Probe(FeatureHead):
        """Probe."""

    try:
        assert Probe().space == "none"
        with pytest.raises(UsageError, match="space-probe uses the classifier"):
            Probe(space="l2")
    finally:
        from featood.heads import registry

        del registry._REGISTRY["space-probe"]


def rewritten(folder, options, tensors):
    """Change an artefact's record and tensors, and seal it again."""
    body = json.loads((folder / "head.json").read_text())
    body.pop("sha256")
    state = load_file(folder / "head.safetensors")
    tensors(state)
    options(body["options"])
    content = save(state)
    (folder / "head.safetensors").write_bytes(content)
    body["tensors_sha256"] = __import__("hashlib").sha256(content).hexdigest()
    (folder / "head.json").write_text(json.dumps(seal(body)))
    assert digest(body)


@pytest.mark.parametrize(("name", "old"), [("gmm", True), ("gmm", False), ("knn", True), ("heat-gmm", True)])
def test_artefacts_that_told_of_unit_length_otherwise(name, old, tmp_path):
    small = {"width": 8, "depth": 1, "updates": 2, "sgld_steps": 1} if name == "heat-gmm" else {}
    head = create_head(name, space="l2" if old else "none", **small).fit(np.abs(ROWS), LABELS)
    folder = head.save(tmp_path / "head")

    def options(values):
        del values["space"], values["components"]
        values["normalize"] = old

    rewritten(folder, options, lambda state: None)
    np.testing.assert_array_equal(load_head(folder).score(OTHERS), head.score(OTHERS))


@pytest.mark.parametrize("old", [True, False])
def test_artefacts_that_kept_mean_and_spread(old, tmp_path):
    kind = "standardize" if old else "none"
    head = create_head("radial-flow", space=kind, epochs=2, layers=2).fit(ROWS)
    folder = head.save(tmp_path / "head")

    def options(values):
        del values["space"], values["components"]
        values["standardize"] = old

    def tensors(state):
        del state["inputs"]
        state["mean"] = state.pop("space.center", torch.zeros(5, dtype=torch.float64))
        state["spread"] = state.pop("space.scale", torch.ones(5, dtype=torch.float64))

    rewritten(folder, options, tensors)
    loaded = load_head(folder)
    assert loaded.space == kind and int(loaded.state["inputs"]) == 5
    np.testing.assert_array_equal(loaded.score(OTHERS), head.score(OTHERS))


def test_tensors_of_members_are_told_apart_from_others_of_the_name():
    old = {
        "1.mean": torch.ones(3),
        "1.spread": torch.ones(3),
        "1.classes": torch.tensor(2),
        "0.mean": torch.zeros(2),
    }
    assert set(earlier_state(old)) == {"1.space.center", "1.space.scale", "1.classes", "1.inputs", "0.mean"}
    assert set(earlier_state({"mean": torch.ones(2), "spread": torch.ones(2)})) == {"mean", "spread"}


def test_an_artefact_without_the_tensors_of_its_space_is_damaged(tmp_path):
    folder = create_head("gmm", space="l2-whiten").fit(ROWS, LABELS).save(tmp_path / "head")
    rewritten(folder, lambda values: None, lambda state: state.pop("space.axes"))
    with pytest.raises(CacheCorrupt, match="space l2-whiten lacks axes"):
        load_head(folder)


def test_a_classifier_s_energy_on_other_rows_than_its_own_is_of_another_version(tmp_path):
    classifier = (RNG.normal(size=(3, 5)).astype(np.float32), np.zeros(3, np.float32))
    data = FeatureSet({"x": np.abs(ROWS)}, labels=LABELS, classifier=classifier)
    small = {"width": 8, "depth": 1, "updates": 2, "sgld_steps": 1}
    folder = create_head("heat-el", **small).fit(data).save(tmp_path / "head")
    rewritten(folder, lambda values: values.update(normalize=False), lambda state: None)
    assert load_head(folder).space == "none"
    rewritten(folder, lambda values: values.update(normalize=True), lambda state: None)
    with pytest.raises(Mismatch, match="space"):
        load_head(folder)


@pytest.mark.parametrize("space", ["none", "l2", "standardize"])
@pytest.mark.parametrize("name", ["mahalanobis", "knn", "radial-flow"])
def test_components_are_refused_in_spaces_without_any(name, space):
    rows, labels = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 2
    with pytest.raises(UsageError, match="components are for the spaces"):
        create_head(name, space=space, components=2).fit(rows, labels)
