import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head, load_head
from featood.heads.base.fit import FitContext
from featood.heads.base.head import WORST
from featood.heads.margins._latent_encoder import LatentEncoder
from featood.losses import latent_divergence, triplet_margin
from featood.training import BalancedBatches

SMALL = {
    "epochs": 12, "lr": 1e-2, "depth": 1, "width": 16, "latent": 4, "margins_epoch": 1, "margin_jumps": 2.0,
    "margin_max_distance": 10.0, "batch_classes": 3, "batch_size": 24, "ridge": 0.0,
}  # fmt: skip
CENTERS = np.eye(3, 6) * 4


def blobs(rows=240, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    avg = CENTERS[labels] + rng.normal(size=(rows, 6)) + shift
    columns = {
        "avg": avg,
        "early.avg": 0.5 * avg[:, :3] + 0.1 * rng.normal(size=(rows, 3)),
        "late.avg": avg[:, 3:] ** 2,
    }
    columns["again"] = columns["early.avg"] + 0.2 * rng.normal(size=(rows, 3))
    features = {name: values.astype(np.float32) for name, values in columns.items()}
    return FeatureSet(features, labels=labels)


def latents(head, data):
    """Means of the latents from the saved weights."""
    state = {name: value.double().numpy() for name, value in head.state.items()}
    rows = (data.features["avg"].astype(np.float64) - state["space.center"]) / state["space.scale"]
    inner = rows @ state["model.encoder.0.weight"].T + state["model.encoder.0.bias"]
    inner = inner / (1 + np.exp(-inner))
    return (inner @ state["model.encoder.2.weight"].T + state["model.encoder.2.bias"])[:, : head.latent]


def log_densities(head, train, data, stages=("early.avg", "late.avg"), ridge=0.0):
    """Log-density of each class on stages and latents, with a ridge relative to the mean variance within classes."""

    def join(part):
        return np.concatenate([*(part.features[name] for name in stages), latents(head, part)], 1)

    rows, known = join(data), join(train)
    members = [known[train.labels == c] for c in range(3)]
    unit = np.mean(sum(((one - one.mean(0)) ** 2).sum(0) for one in members) / len(known))
    addition = ridge * unit * np.eye(known.shape[1])
    covariances = [np.cov(one.T) + addition for one in members]
    densities = []
    for one, covariance in zip(members, covariances, strict=True):
        away = rows - one.mean(0)
        squared = (away * np.linalg.solve(covariance, away.T).T).sum(1)
        log_det = np.linalg.slogdet(2 * np.pi * covariance).logabsdet
        densities.append(-(squared + log_det) / 2)
    return np.stack(densities, 1), covariances


@pytest.fixture(scope="module")
def fitted():
    return create_head("vmdls", **SMALL).fit(blobs())


# ---- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.15, 2.0, 30.0])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 2, 0, 5, 2], [0, 1, 2, 3, 4, 5, 6]])
def test_triplet_margin_is_that_of_a_loop_over_triplets(labels, margin):
    z = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (7, 3)))
    terms = []
    for a, p, n in itertools.permutations(range(7), 3):
        if labels[a] == labels[p] != labels[n]:
            near, far = (z[a] - z[p]).norm().item(), (z[a] - z[n]).norm().item()
            terms.append(max(near - far + 0.1, 0) + max(margin - far, 0))
    positive = [term for term in terms if term > 0]
    expected = sum(positive) / len(positive) if positive else 0.0
    assert triplet_margin(z, torch.tensor(labels), 0.1, margin).item() == pytest.approx(expected, rel=1e-12)


def test_rows_that_coincide_have_a_finite_gradient():
    z = torch.zeros(4, 2, requires_grad=True)
    triplet_margin(z, torch.tensor([0, 0, 1, 1]), margin=1.0).backward()
    assert bool(torch.isfinite(z.grad).all())


def test_latent_divergence_is_that_of_a_loop_over_classes():
    rng = np.random.default_rng(1)
    z, mean, log_variance = rng.normal(0, 1, (3, 9, 4))
    centers, labels = rng.normal(0, 1, (5, 4)), np.array([0, 0, 0, 0, 0, 2, 2, 4, 4])
    by_class = []
    for c in (0, 2, 4):
        rows = labels == c
        posterior = norm.logpdf(z[rows], mean[rows], np.exp(log_variance[rows] / 2))
        by_class.append((posterior - norm.logpdf(z[rows], centers[c], 0.1)).mean())
    tensors = [torch.from_numpy(values) for values in (z, mean, log_variance, centers, labels)]
    assert latent_divergence(*tensors).item() == pytest.approx(np.mean(by_class), rel=1e-12)


def test_latent_divergence_is_in_expectation_that_of_normal_distributions():
    mean, log_variance = torch.tensor([0.3, -0.2]).double(), torch.tensor([-3.0, -5.0]).double()
    draws = (
        mean
        + (log_variance / 2).exp()
        * torch.randn(400_000, 2, generator=torch.Generator().manual_seed(0)).double()
    )
    found = latent_divergence(
        draws, mean.expand_as(draws), log_variance.expand_as(draws), torch.zeros(1, 2).double(),
        torch.zeros(len(draws), dtype=torch.long),
    )  # fmt: skip
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    exact = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 0.1)).mean()
    assert float(found) == pytest.approx(float(exact), rel=5e-3)


# ---- batches --------------------------------------------------------------------------------------


def test_balanced_batches_have_as_many_rows_of_each_class():
    labels = torch.tensor([7] * 50 + [3] * 9 + [0] * 40 + [4] * 1 + [2] * 30)
    batches = BalancedBatches(labels, classes=3, samples=5, seed=1)
    assert len(batches) == 130 // 15
    seen, chosen = [], set()
    for number in range(20 * len(batches)):
        rows = batches(number)
        classes, counts = labels[rows].unique(return_counts=True)
        assert len(classes) == 3 and counts.tolist() == [5, 5, 5]
        chosen.add(tuple(classes.tolist()))
        for c in classes.tolist():
            own = rows[labels[rows] == c]
            assert len(own.unique()) == min(5, int((labels == c).sum()))
        seen.append(rows)
    assert len(chosen) == 10 and len(torch.cat(seen).unique()) == 130
    counts = torch.bincount(labels[torch.cat(seen)])[labels.unique()]
    assert counts.min() > 0.7 * counts.max()


def test_a_class_goes_through_its_rows_before_one_comes_again():
    batches = BalancedBatches(torch.arange(40) % 2, classes=2, samples=5)
    epoch = torch.cat([batches(number) for number in range(4)])
    assert len(batches) == 4 and epoch.sort().values.tolist() == list(range(40))
    assert not torch.equal(epoch, torch.cat([batches(number) for number in range(4, 8)]))


def test_balanced_batches_follow_from_their_number_and_seed():
    labels = torch.arange(60) % 4
    forwards = [BalancedBatches(labels, 2, 3, seed=5)(number) for number in range(25)]
    batches = BalancedBatches(labels, 2, 3, seed=5)
    for number in reversed(range(25)):
        assert torch.equal(batches(number), forwards[number])
    assert not torch.equal(BalancedBatches(labels, 2, 3, seed=6)(0), forwards[0])
    with pytest.raises(DataError, match="no rows"):
        BalancedBatches(labels[:0], 2, 3)


# ---- training -------------------------------------------------------------------------------------


def test_the_centers_are_the_class_means_of_the_epoch_before():
    model = LatentEncoder(torch.nn.Linear(5, 6), 3, 4).double()
    model.steps_per_epoch = 3
    rng = np.random.default_rng(0)
    expected = np.zeros((4, 3))
    for epoch in range(3):
        assert model.epoch == epoch
        np.testing.assert_allclose(model.centers, expected)
        drawn, named = [], []
        for _ in range(3):
            drawn.append(rng.normal(0, 1, (6, 3)))
            named.append(rng.choice([0, 1, 3] if epoch == 1 else [0, 3], 6))
            model.advance(torch.from_numpy(drawn[-1]), torch.from_numpy(named[-1]))
        for c in np.unique(named):
            expected[c] = np.concatenate(drawn)[np.concatenate(named) == c].mean(0)
    np.testing.assert_allclose(model.centers, expected)


def test_the_margin_grows_by_a_jump_an_epoch_up_to_its_largest():
    head = create_head("vmdls", margins_epoch=3, margin_jumps=0.5, margin_max_distance=1.4)
    assert [head.margin(epoch) for epoch in range(8)] == pytest.approx(
        [0.15, 0.15, 0.15, 0.65, 1.15, 1.4, 1.4, 1.4]
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_the_loss_of_a_step(normalize):
    head = create_head("vmdls", **SMALL, normalize_embeddings=normalize, generation_epoch=2, kl_weight=0.3)
    model = head.build(6, 3, torch.Generator().manual_seed(0)).double().requires_grad_(False)
    model.centers.normal_(generator=torch.Generator().manual_seed(1))
    model.steps_per_epoch = 1
    rows, labels = torch.from_numpy(blobs(30).features["avg"]).double(), torch.from_numpy(blobs(30).labels)
    mean, log_variance = model.encoder(rows).split(4, dim=1)
    noise = torch.randn(30, 4, generator=torch.Generator().manual_seed(7))
    z = mean + (log_variance / 2).exp() * noise
    centers = model.centers.clone()
    for epoch, margin, weight in ((0, 0.15, 0.0), (1, 2.15, 0.0), (2, 4.15, 0.3)):
        found = head.losses(model, rows, labels, torch.Generator().manual_seed(7))["loss"]
        expected = triplet_margin(F.normalize(z) if normalize else z, labels, 0.1, margin)
        if weight:
            centers = torch.stack([z[labels == c].mean(0) for c in range(3)]).detach()
            expected = expected + weight * latent_divergence(z, mean, log_variance, centers, labels)
        assert float(found) == pytest.approx(float(expected), rel=1e-6), epoch


def separation(head, data):
    z = latents(head, data)
    means = np.stack([z[data.labels == c].mean(0) for c in range(3)])
    spread = max(np.linalg.norm(z[data.labels == c] - means[c], axis=1).mean() for c in range(3))
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(means, 2)), spread


@pytest.fixture(scope="module")
def apart():
    """Heads by margin, with a weak pull of the centres, which would let classes move only slowly."""
    options = SMALL | {"epochs": 25, "kl_weight": 0.02}
    return {m: create_head("vmdls", **options | {"margin_max_distance": m}).fit(blobs()) for m in (2.0, 10.0)}


def test_training_keeps_classes_as_far_apart_as_the_margin(apart):
    found = {margin: separation(head, blobs(seed=1)) for margin, head in apart.items()}
    for margin, (least, spread) in found.items():
        assert least > margin and spread < least / 3
    assert found[10.0][0] > 2 * found[2.0][0]


def test_scaled_embeddings_cannot_keep_a_margin(apart):
    options = apart[10.0].options | {"normalize_embeddings": True}
    assert separation(create_head("vmdls", **options).fit(blobs()), blobs(seed=1))[0] < 3


def test_the_loss_of_held_out_rows_does_not_grow_with_the_margin():
    head = create_head("vmdls", **SMALL)
    model = head.build(6, 3, torch.Generator().manual_seed(0))
    rows, labels = torch.from_numpy(blobs(60).features["avg"]), torch.from_numpy(blobs(60).labels)
    first = head.validation_loss(model, rows, labels, torch.Generator().manual_seed(0))
    centers = model.centers.clone()
    model.step += 1000
    again = head.validation_loss(model, rows, labels, torch.Generator().manual_seed(0))
    assert first == again and int(model.step) == 1000 and torch.equal(model.centers, centers)
    generator = torch.Generator().manual_seed(0)
    means, log_variances = model.posterior(rows)
    batches = []
    for start in (0, 24):
        part = slice(start, start + 24)
        z = means[part] + (log_variances[part] / 2).exp() * torch.randn(24, 4, generator=generator)
        divergence = latent_divergence(z, means[part], log_variances[part], centers, labels[part])
        batches.append(triplet_margin(z, labels[part], 0.1, 10.0) + 0.1 * divergence)
    assert float(first.detach()) == pytest.approx(float(sum(batches).detach()) / 2, rel=1e-5)


def test_held_out_rows_and_outliers_can_choose_the_best_state():
    context = FitContext(validate_on=blobs(60, seed=3, shift=-5.0))
    head = create_head("vmdls", **SMALL, validation=0.2).fit(blobs(), context=context)
    assert head.record.training and np.isfinite(head.score(blobs(30, seed=1))).all()


def test_an_interrupted_training_resumes_to_the_same_scores(tmp_path):
    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 77:
            raise Killed

    expected = create_head("vmdls", **SMALL).fit(blobs()).score(blobs())
    with pytest.raises(Killed):
        create_head("vmdls", **SMALL).fit(blobs(), context=FitContext(stop, tmp_path / "fit"))
    context = FitContext(checkpoint=tmp_path / "fit")
    np.testing.assert_array_equal(
        create_head("vmdls", **SMALL).fit(blobs(), context=context).score(blobs()), expected
    )


# ---- densities ------------------------------------------------------------------------------------


def test_scores_are_the_densities_below_the_largest_of_the_training_rows(fitted):
    train, test = blobs(), blobs(50, seed=1)
    densities = log_densities(fitted, train, test)[0]
    largest = log_densities(fitted, train, train)[0].max()
    assert fitted.state["gaussians.ridge"] == 0
    np.testing.assert_allclose(fitted.classify(test), densities, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(fitted.score(test), largest + 1 - densities.max(1), rtol=1e-3, atol=1e-2)
    assert float(fitted.state["largest_density"]) == pytest.approx(largest, abs=1e-2)
    # the constants are not those of the rows scored
    np.testing.assert_allclose(fitted.score(test.rows(slice(0, 7))), fitted.score(test)[:7], rtol=1e-12)


def test_singular_covariances_get_the_least_ridge_that_makes_all_sound():
    """A stage that comes twice makes the covariance of each class singular."""
    train, test = (
        dataclasses.replace(data, features={**data.features, "same": data.features["early.avg"]})
        for data in (blobs(), blobs(50, seed=1))
    )
    stages = ("early.avg", "same", "late.avg")
    with pytest.warns(UserWarning, match="class covariances are singular"):
        head = create_head("vmdls", **SMALL, stages=stages).fit(train)
    ridge = float(head.state["gaussians.ridge"])
    densities, covariances = log_densities(head, train, test, stages, ridge)
    np.testing.assert_allclose(head.classify(test), densities, rtol=1e-3, atol=1e-2)
    assert ridge == 1e-10 and all(np.linalg.cond(one) < 1e14 for one in covariances)
    unexplained = [
        1 / (np.linalg.inv(one).diagonal() * one.diagonal())
        for one in log_densities(head, train, test, stages, 1e-12)[1]
    ]
    assert min(map(np.min, unexplained)) < 1e-11, "a smaller ridge would have done"


def test_one_feature_can_be_learnt():
    train, test, far = (
        FeatureSet({"avg": data.features["avg"][:, :1]}, labels=data.labels)
        for data in (blobs(), blobs(60, seed=1), blobs(60, seed=2, shift=40.0))
    )
    for depth in (0, 1):
        head = create_head("vmdls", **SMALL | {"depth": depth}).fit(train)
        assert head.score(far).min() > head.score(test).max()


def test_densities_of_rows_that_are_very_far_keep_their_order(fitted):
    test = blobs(60, seed=1)
    scores = []
    for factor in (1e18, 1e22, 1e26):
        late = test.features["late.avg"] * np.float32(factor)
        scores.append(fitted.score(dataclasses.replace(test, features={**test.features, "late.avg": late})))
        assert len(np.unique(scores[-1])) == len(test) and (scores[-1] < WORST).all()
    assert (scores[0] < scores[1]).all() and (scores[1] < scores[2]).all()


def test_reconstruction_errors_weigh_the_scores(fitted):
    head = create_head("vmdls", **SMALL, original="early.avg", reconstruction="again").fit(blobs())
    train, test = blobs(), blobs(50, seed=1)

    def errors(data):
        difference = data.features["early.avg"].astype(np.float64) - data.features["again"]
        return (difference**2).mean(1)

    expected = fitted.score(test) * errors(test) / errors(train).max()
    np.testing.assert_allclose(head.score(test), expected, rtol=1e-6)
    np.testing.assert_array_equal(head.classify(test), fitted.classify(test))


def test_stages_are_all_averages_but_the_encoder_s_input_unless_named():
    data = blobs()
    assert create_head("vmdls").columns(data) == ["avg", "early.avg", "late.avg"]
    assert create_head("vmdls", stages=("late.avg",)).columns(data) == ["avg", "late.avg"]
    assert create_head("vmdls", feature="late.avg").columns(data) == ["late.avg", "early.avg"]
    weighed = create_head("vmdls", stages=("late.avg",), original="early.avg", reconstruction="again")
    assert weighed.columns(data) == ["avg", "late.avg", "early.avg", "again"]
    head = create_head("vmdls", **SMALL, stages=("late.avg",)).fit(data)
    assert head.state["gaussians.center"].shape == (7,)
    alone = FeatureSet({"avg": data.features["avg"]}, labels=data.labels)
    assert create_head("vmdls", **SMALL).fit(alone).state["gaussians.center"].shape == (4,)


def test_classes_are_recognised_and_outliers_found(fitted, tmp_path):
    test, odd = blobs(90, seed=1), blobs(90, seed=2, shift=-4.0)
    assert (fitted.classify(test).argmax(1) == test.labels).mean() > 0.95
    scores = np.concatenate([fitted.score(test), fitted.score(odd)])
    assert roc_auc_score(np.repeat([0, 1], 90), scores) > 0.95
    loaded = load_head(fitted.save(tmp_path / "head"))
    np.testing.assert_array_equal(loaded.classify(test), fitted.classify(test))
    assert not any(name.startswith("model.") and "encoder" not in name for name in loaded.state)


@pytest.mark.filterwarnings("ignore:gmm")
def test_classes_of_one_row_and_of_none():
    train = blobs()
    labels = np.where(train.labels == 1, 4, train.labels)
    keep = (labels != 2) | (np.arange(len(labels)) == 2)
    train = dataclasses.replace(train, labels=labels).rows(keep)
    head = create_head("vmdls", **SMALL).fit(train)
    logits = head.classify(blobs(60, seed=1))
    assert logits.shape == (60, 3) and head.classes.tolist() == [0, 2, 4]
    assert np.isfinite(logits).all() and np.isfinite(head.score(blobs(60, seed=1))).all()


def test_one_class_alone_can_be_learnt():
    train = blobs().rows(blobs().labels == 0)
    head = create_head("vmdls", **SMALL).fit(train)
    assert np.median(head.score(blobs(60, seed=2, shift=-4.0))) > np.median(head.score(train))


def test_misuse():
    with pytest.raises(UsageError, match="must be given together"):
        create_head("vmdls", original="early.avg")
    with pytest.raises(DataError, match=r"the same as early\.avg"):
        create_head("vmdls", **SMALL, original="early.avg", reconstruction="early.avg").fit(blobs())
    with pytest.raises(UsageError, match="no feature column 'nowhere'"):
        create_head("vmdls", **SMALL, stages=("nowhere",)).fit(blobs())
