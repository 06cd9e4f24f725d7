import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp, softmax

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head, list_heads
from featood.heads.reshaping._reshaping_head import activation_ratio, top_mask
from featood.numerics import quantiles as quantiles_module
from featood.numerics.quantiles import column_quantiles, quantiles
from featood.testing.fixture import Blockwise, synthetic_sets, with_main

TRAIN, TEST = synthetic_sets()
W, B = (np.asarray(part, dtype=float) for part in TRAIN.classifier)
KNOWN = np.asarray(TRAIN.labels) >= 0
Z = np.asarray(TRAIN.features["avg"], dtype=float)[KNOWN]
X = np.asarray(TEST.features["avg"], dtype=float)
SIZE = Z.shape[1]
FINITE = {"allow_nan": False, "allow_infinity": False}


def scores(name, train=TRAIN, test=TEST, **options):
    return create_head(name, **options).fit(train).score(test)


def energies(reshape, weight=W):
    return [-logsumexp(weight @ reshape(x) + B) for x in X]


def largest(x, pruned=0.65):
    """Indices of the activations that stay."""
    return np.argsort(-x, kind="stable")[: SIZE - round(SIZE * pruned)]


def only(x, kept):
    return np.array([value if i in kept else 0 for i, value in enumerate(x)])


# ---- each head against a loop


def test_react():
    limit = np.quantile(Z, 0.9)
    np.testing.assert_allclose(scores("react"), energies(lambda x: np.minimum(x, limit)), rtol=1e-5)


def rectified(x, lower, upper, gamma):
    pieces = zip(x, lower, upper, strict=True)
    return np.array([0 if value < a else b if value > b else value + gamma for value, a, b in pieces])


@pytest.mark.parametrize("gamma", [0.0, 0.6])
def test_vra_bounds_each_unit_by_its_own_quantiles(gamma):
    lower, upper = np.quantile(Z, [0.6, 0.9], axis=0)
    assert upper.std() > 0.1  # one bound for all units would not do
    expected = energies(lambda x: rectified(x, lower, upper, gamma))
    np.testing.assert_allclose(scores("vra", gamma=gamma), expected, rtol=1e-5)


def test_vra_with_bounds_that_are_values():
    expected = energies(lambda x: rectified(x, np.full(SIZE, 0.5), np.full(SIZE, 1.0), 0))
    np.testing.assert_allclose(
        create_head("vra", preset="imagenet").fit(TRAIN).score(TEST), expected, rtol=1e-5
    )


def sparse(share):
    contribution = np.array([[W[c, d] * Z[:, d].mean() for d in range(SIZE)] for c in range(len(B))])
    return np.where(contribution > np.quantile(contribution, share), W, 0)


def test_dice():
    np.testing.assert_allclose(scores("dice"), energies(lambda x: x, sparse(0.9)), rtol=1e-5)


def test_react_with_the_sparse_weights_of_dice():
    limit = np.quantile(Z, 0.8)
    expected = energies(lambda x: np.minimum(x, limit), sparse(0.3))
    np.testing.assert_allclose(scores("react", percentile=0.8, sparsity=0.3), expected, rtol=1e-5)


def test_ras():
    profile = [np.mean([sorted(z)[place] for z in Z]) for place in range(SIZE)]

    def replaced(x):
        result = np.empty(SIZE)
        for place, unit in enumerate(sorted(range(SIZE), key=lambda d: (x[d], d))):
            result[unit] = profile[place]
        return result

    assert (X == 0).sum() > X.size / 4  # zeros, which are ordered by their position
    np.testing.assert_allclose(scores("ras"), energies(replaced), rtol=1e-5)


def test_ras_sees_the_order_alone():
    np.testing.assert_allclose(
        scores("ras", test=with_main(TEST, np.float32(3) * TEST.features["avg"])), scores("ras")
    )


def test_optfs():
    low, high = np.quantile(Z, [0.001, 0.999])
    edges = [low + (high - low) * i / 100 for i in range(101)]

    def interval(value):
        return next((i for i in range(100) if edges[i] <= value < edges[i + 1]), None)

    theta = np.zeros(100)
    for z in Z:
        weight = W[(W @ z + B).argmax()]
        for d in range(SIZE):
            if interval(z[d]) is not None:
                theta[interval(z[d])] += weight[d] * z[d] / len(Z)
    theta /= np.sqrt((theta**2).sum())
    expected = []
    for x in X:
        weight = W[(W @ x + B).argmax()]
        inside = [d for d in range(SIZE) if interval(x[d]) is not None]
        expected.append(-sum(weight[d] * theta[interval(x[d])] * x[d] for d in inside))
    np.testing.assert_allclose(scores("optfs"), expected, rtol=1e-5)


def test_optfs_with_constant_features_is_finite():
    constant = with_main(TRAIN, np.ones_like(TRAIN.features["avg"]))
    assert np.isfinite(scores("optfs", train=constant)).all()


def test_ash_p():
    np.testing.assert_allclose(scores("ash-p"), energies(lambda x: only(x, largest(x))), rtol=1e-5)


def test_ash_b():
    expected = energies(lambda x: only(np.full(SIZE, x.sum() / len(largest(x))), largest(x)))
    np.testing.assert_allclose(scores("ash-b"), expected, rtol=1e-5)


def test_ash_s():
    expected = energies(lambda x: only(x, largest(x)) * np.exp(x.sum() / x[largest(x)].sum()))
    np.testing.assert_allclose(scores("ash-s"), expected, rtol=1e-5)


def test_scale():
    expected = energies(lambda x: x * np.exp(x.sum() / x[largest(x)].sum()))
    np.testing.assert_allclose(scores("scale"), expected, rtol=1e-5)


def test_lts():
    expected = [-logsumexp((W @ x + B) * (x.sum() / x[largest(x, 0.95)].sum()) ** 2) for x in X]
    np.testing.assert_allclose(scores("lts"), expected, rtol=1e-5)


# ---- the same of pytorch-ood, which takes pooled features as maps of one pixel


def torch_head():
    head = torch.nn.Linear(*W.shape[::-1])
    head.weight.data, head.bias.data = torch.tensor(W).float(), torch.tensor(B).float()
    return torch.nn.Sequential(torch.nn.Flatten(), head)


def maps(rows):
    return torch.tensor(rows).float()[:, :, None, None]


def test_react_equals_pytorch_ood(detectors):
    theirs = detectors.ReAct(None, torch_head()).fit_feature_maps(maps(Z), torch.zeros(len(Z)))
    np.testing.assert_allclose(
        scores("react"), theirs.predict_feature_maps(maps(X)).detach().numpy(), rtol=1e-4
    )


def test_dice_equals_pytorch_ood(detectors):
    theirs = detectors.DICE(None, torch.tensor(W).float(), torch.tensor(B).float(), p=0.7)
    theirs.fit_features(torch.tensor(Z).float(), torch.zeros(len(Z)))
    expected = theirs.predict_features(torch.tensor(X).float())
    np.testing.assert_allclose(scores("dice", p=0.7), expected, rtol=1e-4)


@pytest.mark.parametrize("variant", ["ash-p", "ash-b", "ash-s"])
def test_ash_equals_pytorch_ood(detectors, variant):
    # where fewer activations are positive than are kept, ASH-B must choose among zeros: theirs by no rule
    enough = (X > 0).sum(1) >= len(largest(X[0]))
    theirs = detectors.ASH(None, torch_head(), variant=variant).predict_feature_maps(maps(X))
    assert enough.sum() > 40
    np.testing.assert_allclose(
        scores(variant, percentile=0.65)[enough], theirs.detach().numpy()[enough], rtol=1e-4
    )


def test_scale_equals_pytorch_ood(detectors):
    theirs = detectors.SCALE(None, torch_head(), percentile=0.8).predict_feature_maps(maps(X))
    np.testing.assert_allclose(scores("scale", percentile=0.8), theirs.detach().numpy(), rtol=1e-4)


def test_lts_equals_pytorch_ood(detectors):
    theirs = detectors.LTS(None, torch_head()).predict_features(torch.tensor(X).float())
    np.testing.assert_allclose(scores("lts"), theirs.detach().numpy(), rtol=1e-4)


# VRA is not compared: theirs clips from below too, where the authors set what is small to zero


# ---- what they share


def test_then_any_logit_head():
    limit = np.quantile(Z, 0.9)
    logits = np.minimum(X, limit) @ W.T + B
    np.testing.assert_allclose(scores("react", then="max-logit"), -logits.max(1), rtol=1e-5)
    np.testing.assert_allclose(scores("react", then="msp"), -softmax(logits, axis=1).max(1), rtol=1e-5)


@pytest.mark.parametrize("then", ["mahalanobis", "vim", "react", "temperature-scaling"])
def test_then_refuses_other_heads(then):
    if then in list_heads():
        with pytest.raises(UsageError, match="logit head"):
            create_head("scale", then=then)
    with pytest.raises(UsageError, match="no head"):
        create_head("scale", then="nonsense")


@pytest.mark.parametrize("name", ["ash-p", "ash-b", "ash-s", "scale", "lts"])
def test_no_fit_is_needed_where_the_set_has_its_classifier(name):
    np.testing.assert_allclose(create_head(name).score(TEST), scores(name), rtol=1e-12)
    bare = dataclasses.replace(TEST, classifier=None)
    np.testing.assert_allclose(scores(name, test=bare), scores(name), rtol=1e-12)
    with pytest.raises(DataError, match="classifier"):
        create_head(name).score(bare)


@pytest.mark.parametrize("name", ["react", "vra", "dice", "ras", "optfs", "scale", "weiper"])
def test_a_column_that_does_not_fit_the_classifier_is_named(name):
    with pytest.raises(UsageError, match=r"layer1\.avg"):
        create_head(name, feature="layer1.avg").fit(TRAIN)


def test_vra_refuses_what_is_no_pair_of_bounds():
    with pytest.raises(UsageError, match="above"):
        scores("vra", lower=0.9, upper=0.5)
    with pytest.raises(UsageError, match="--bounds values"):
        scores("vra", lower=0.5, upper=1.5)
    with pytest.raises(UsageError, match="above"):
        scores("vra", lower=float("nan"))


@pytest.mark.parametrize("name", ["ash-s", "scale", "lts"])
def test_signed_features_keep_the_ratio_within_bounds(name):
    signed = with_main(TEST, TEST.features["avg"] - np.float32(0.8))
    assert (np.abs(create_head(name).score(signed)) < 1e6).all()


def test_top_mask_takes_the_first_of_equal_entries():
    rows = torch.tensor([[0.0, 2.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert top_mask(rows, 3).tolist() == [[False, True, False, True, True], [True, True, True, False, False]]


def test_activation_ratio():
    rows = torch.tensor([[3.0, 1.0, -5.0, 2.0], [0.0, -1.0, 0.0, -2.0]])
    assert activation_ratio(rows, 2).flatten().tolist() == [pytest.approx(6 / 5), 1]


# ---- WeiPer


def divergence(row, reference, width, floor):
    pads = (width - 1) // 2, width // 2
    padded = np.concatenate([[row[0]] * pads[0], row, [row[-1]] * pads[1]])
    q = np.array([padded[i : i + width].mean() for i in range(len(row))]) + floor
    p = reference + floor
    p, q = p / p.sum(), q / q.sum()
    return sum(p * np.log(p / q)) + sum(q * np.log(q / p))


def histogram(values, low, high):
    counts = np.histogram(values[(values >= low) & (values <= high)], bins=20, range=(low, high))[0]
    return counts / max(counts.sum(), 1)


@pytest.mark.parametrize("divergent", [True, False])
def test_weiper(divergent):
    options = {"repeats": 3, "bins": 20, "smooth": 4, "smooth_perturbed": 5, "lambda1": 2.0, "lambda2": 0.5}
    exact = create_head("weiper", divergence=divergent, **options).fit(
        with_main(TRAIN, TRAIN.features["avg"].astype(float))
    )
    _, weights = exact.prepare(exact.state)
    assert len(weights) == 3
    for weight in weights:  # every perturbation is delta times as long as the weight it is added to
        np.testing.assert_allclose(
            np.linalg.norm(weight - W, axis=1), 2.1 * np.linalg.norm(W, axis=1), rtol=1e-5
        )

    def view(row):
        return np.stack([np.asarray(weight, dtype=float) @ row + B for weight in weights])

    train = np.array([view(z) for z in Z])
    ends = (Z.min(), Z.max()), (train.min(), train.max())
    plain = np.mean([histogram(z, *ends[0]) for z in Z], axis=0)
    perturbed = np.mean([histogram(v, *ends[1]) for v in train], axis=0)
    expected = []
    for x in X:
        score = -np.mean([softmax(logits).max() for logits in view(x)])
        if divergent:
            score = 0.5 * score + divergence(histogram(x, *ends[0]), plain, 4, 0.01)
            score += 2 * divergence(histogram(view(x), *ends[1]), perturbed, 5, 0.025)
        expected.append(score)
    np.testing.assert_allclose(exact.score(with_main(TEST, X)), expected, rtol=1e-6)
    # the logits of float32 features are float32, of which a few lie on the other side of the edge of a bin
    found = create_head("weiper", divergence=divergent, **options).fit(TRAIN).score(TEST)
    assert np.isclose(found, expected, rtol=1e-5).mean() > 0.8
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_weiper_is_seeded():
    one = scores("weiper", repeats=2, seed=1)
    assert np.array_equal(one, scores("weiper", repeats=2, seed=1))
    assert not np.allclose(one, scores("weiper", repeats=2, seed=2))


# ---- quantiles of a stream


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20), max_size=8),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
def test_quantiles_are_those_of_numpy(parts, fractions):
    values = np.array([value for part in parts for value in part], dtype=np.float32)
    blocks = [torch.tensor(part, dtype=torch.float32) for part in parts]
    if not len(values):
        with pytest.raises(DataError, match="no rows"):
            quantiles(lambda: blocks, fractions)
        return
    found = quantiles(lambda: blocks, fractions)
    expected = np.quantile(values.astype(float), fractions)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-30 + 1e-12 * np.abs(values).max())


def test_quantiles_do_not_depend_on_blocks_or_order():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    whole = quantiles(lambda: [values], [0.05, 0.5, 0.9])
    assert whole == quantiles(lambda: values.flip(0).split(7), [0.05, 0.5, 0.9])


@settings(deadline=None, max_examples=40)
@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 20), st.integers(1, 4)), elements=st.floats(width=32, **FINITE)
    ),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
    st.integers(1, 7),
    st.sampled_from([1, 1 << 20]),
)
def test_column_quantiles_are_those_of_numpy(values, fractions, rows, table):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles_module, "TABLE", table)  # few or many bits a pass
        found = column_quantiles(lambda: torch.from_numpy(values).split(rows), fractions)
    expected = np.quantile(values.astype(float), fractions, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-30 + 1e-12 * np.abs(values).max())


def test_react_limit_does_not_depend_on_blocks():
    limits = [create_head("react").fit(data).state["limit"] for data in (TRAIN, Blockwise.of(TRAIN))]
    assert limits[0] == limits[1] == np.float32(np.quantile(Z, 0.9))


def test_react_fits_plain_features():
    plain = FeatureSet({"features": Z.astype(np.float32)}, classifier=(W, B))
    found = create_head("react").fit(plain).score(X.astype(np.float32))
    np.testing.assert_allclose(found, scores("react"), rtol=1e-6)
