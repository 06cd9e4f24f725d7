import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from scipy.stats import dirichlet
from sklearn.metrics import roc_auc_score
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.flows import GaussianMixtures
from featood.flows.posterior_network import log_budget
from featood.heads import ask, create_head, load_head
from featood.heads.base.fit import FitContext

SMALL = {
    "epochs": 40, "batch_size": 50, "width": 16, "depth": 1, "latent": 3, "layers": 3, "lr": 5e-2, "validation": 0.0
}  # fmt: skip
CENTERS = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]])


def blobs(rows=300, seed=0, centers=CENTERS):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(centers), rows)
    features = (centers[labels] + rng.normal(size=(rows, 3))).astype(np.float32)
    return FeatureSet({"avg": features}, labels=labels)


def evidence(head, data):
    """Log of the densities of each class, by the explicit map of the flows."""
    model, state = head.prepare(head.state)
    rows = (torch.from_numpy(data.features["avg"]).double() - state["space.center"]) / state["space.scale"]
    latents = (model.encoder(rows) - model.norm.running_mean) / (
        model.norm.running_var + model.norm.eps
    ).sqrt()
    latents = latents * model.norm.weight + model.norm.bias
    base, log_det = model.flows(latents[:, None])
    return (log_det - 0.5 * (base.square().sum(2) + base.shape[2] * math.log(2 * math.pi))).numpy()


def moments(alpha):
    """Scores of each row by SciPy and the textbook's formulas."""
    total = alpha.sum(1, keepdims=True)
    p = alpha / total
    expected = (p * (digamma(total + 1) - digamma(alpha + 1))).sum(1)
    return {
        "alpha0": -np.log(total[:, 0]),
        "max-p": -p.max(1),
        "differential-entropy": np.array([dirichlet(row).entropy() for row in alpha]),
        "expected-entropy": expected,
        "mutual-information": -(p * np.log(p)).sum(1) - expected,
        "epkl": (alpha.shape[1] - 1) / total[:, 0],
    }


@pytest.fixture(scope="module")
def fitted():
    return create_head("postnet", **SMALL).fit(blobs())


def test_scores_are_those_of_concentrations_that_are_not_normalised(fitted):
    data = blobs(40, seed=1)
    log_density = evidence(fitted, data)
    counts = np.bincount(blobs().labels)
    expected = moments(1 + counts * np.exp(log_density))
    for which, scores in expected.items():
        np.testing.assert_allclose(
            ask(fitted, which).score(data), scores, rtol=1e-6, atol=1e-9, err_msg=which
        )
    log_evidence = np.log((counts * np.exp(log_density)).sum(1))
    np.testing.assert_allclose(ask(fitted, "p(x)").score(data), -log_evidence, rtol=1e-8)


@pytest.mark.parametrize(
    "options",
    [{"budget": "one"}, {"budget": "log"}, {"budget": "id-normalized"}, {"training": "sequential"}],
    ids=str,
)
def test_classes_are_told_apart_and_outliers_found(options):
    train, test = blobs(), blobs(100, seed=1)
    head = create_head("postnet", **SMALL, **options).fit(train)
    outliers = FeatureSet({"avg": blobs(100, seed=2).features["avg"] - np.float32(8)})
    scores = np.concatenate([head.score(test), head.score(outliers)])
    assert roc_auc_score(np.repeat([0, 1], 100), scores) > 0.9
    assert (evidence(head, test).argmax(1) == test.labels).mean() > 0.9


def test_the_counts_are_saved(fitted, tmp_path):
    loaded = load_head(fitted.save(tmp_path / "head"))
    assert loaded.state["model.counts"].tolist() == np.bincount(blobs().labels).tolist()
    assert not any("readout" in name for name in loaded.state)
    np.testing.assert_array_equal(loaded.score(blobs(9)), fitted.score(blobs(9)))


def test_budgets():
    counts = torch.tensor([3, 0, 900])
    expected = {
        "one": [0, -math.inf, 0],
        "log": [math.log(math.log(4)), -math.inf, math.log(math.log(901))],
        "id": [math.log(3), -math.inf, math.log(900)],
        "id-normalized": [math.log(3 / 903), -math.inf, math.log(900 / 903)],
        "exp": [3, -math.inf, 900],
    }
    for kind, values in expected.items():
        torch.testing.assert_close(log_budget(counts, kind), torch.tensor(values, dtype=torch.float64))


def test_the_loss_is_the_bayesian_one():
    head = create_head("postnet", **SMALL, entropy_weight=0.3)
    model = head.build(3, 3, torch.Generator().manual_seed(0)).double().eval()
    rows, labels = torch.from_numpy(blobs(30).features["avg"]).double(), torch.from_numpy(blobs(30).labels)
    head.initialize(model, rows, labels)
    with torch.no_grad():
        found = float(head.losses(model, rows, labels, torch.Generator())["loss"])
        alpha = (
            1 + np.bincount(labels) * model.flows.log_density(model.norm(model.encoder(rows))).exp().numpy()
        )
    total = alpha.sum(1)
    log_beta = gammaln(alpha).sum(1) - gammaln(total)
    entropy = log_beta + (total - 3) * digamma(total) - ((alpha - 1) * digamma(alpha)).sum(1)
    error = digamma(total) - digamma(alpha[np.arange(30), labels])
    assert found == pytest.approx((error - 0.3 * entropy).mean(), rel=1e-9)


def test_training_stops_by_errors_and_by_the_loss_where_they_tie(fitted):
    model, state = fitted.prepare(fitted.state)
    data = blobs(300, seed=1)
    rows = (torch.from_numpy(data.features["avg"]).double() - state["space.center"]) / state["space.scale"]
    labels = torch.from_numpy(data.labels)
    wrong = (fitted.classify(data).argmax(1) != data.labels).mean()
    share, loss = (
        float(f(model, rows, labels, torch.Generator()))
        for f in (fitted.validation_loss, lambda *batch: fitted.losses(*batch)["loss"])
    )
    assert share == pytest.approx(wrong + 1e-4 * loss)


def test_sequential_training_lowers_one_loss_after_the_other():
    seen = []
    context = FitContext(progress=lambda step, total, **losses: seen.append(losses))
    create_head("postnet", **SMALL, training="sequential").fit(blobs(), context=context)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert all("uce" not in losses for losses in first) and all("uce" in losses for losses in second)
    for half in (first, second):
        losses = [step["loss"] for step in half]
        assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_sequential_training_leaves_the_encoder_alone_in_its_second_half():
    states = {}

    class Watched(type(create_head("postnet"))):
        def losses(self, model, rows, labels, generator):
            states[len(states)] = {name: value.clone() for name, value in model.state_dict().items()}
            return super().losses(model, rows, labels, generator)

    head = Watched(**{**SMALL, "epochs": 4}, training="sequential")
    head.fit(blobs(100))
    assert len(states) == 8

    def moved(part, first, last):
        return any(
            not torch.equal(states[first][k], states[last][k]) for k in states[0] if k.startswith(part)
        )

    assert moved("encoder.", 0, 4) and not moved("flows.", 0, 4)
    assert not moved("encoder.", 4, 7) and moved("flows.", 4, 7)


@pytest.mark.parametrize("training", ["joint", "sequential"])
def test_densities_alone_are_fine_tuned_after_joint_training(training):
    options = {**SMALL, "training": training, "epochs": 10}
    with_, without = (create_head("postnet", **options, finetune=on).fit(blobs()) for on in (True, False))
    same = {
        name: torch.equal(with_.state[name], value)
        for name, value in without.state.items()
        if "model." in name
    }
    assert same and all(same[name] for name in same if ".flows." not in name)
    assert all(same.values()) == (training == "sequential")
    labels = blobs(seed=1).labels
    likelihoods = [evidence(head, blobs(seed=1))[np.arange(300), labels].mean() for head in (with_, without)]
    assert likelihoods[0] > likelihoods[1] + 0.1 or training == "sequential"


@pytest.mark.parametrize("training", ["joint", "sequential"])
def test_an_interrupted_training_resumes_to_the_same_scores(training, tmp_path):
    options = {**SMALL, "epochs": 50, "training": training}
    train = blobs(100)
    expected = create_head("postnet", **options).fit(train).score(train)

    def interrupt(step, total, **values):
        if step == 60:
            raise KeyboardInterrupt

    context = FitContext(progress=interrupt, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(KeyboardInterrupt):
        create_head("postnet", **options).fit(train, context=context)
    resumed = create_head("postnet", **options).fit(
        train, context=FitContext(checkpoint=tmp_path / "checkpoint")
    )
    np.testing.assert_array_equal(resumed.score(train), expected)


def test_sequential_training_holds_no_rows_out():
    train, options = blobs(100), {**SMALL, "epochs": 4, "training": "sequential"}
    scores = [
        create_head("postnet", **{**options, "validation": share}).fit(train).score(train)
        for share in (0.0, 0.3)
    ]
    np.testing.assert_array_equal(*scores)
    with pytest.raises(UsageError, match="train jointly"):
        head = create_head("postnet", **{**options, "validation": 0.3})
        head.fit(train, context=FitContext(validate_on=blobs(20)))


def test_misuse():
    with pytest.raises(DataError, match="more rows"):
        create_head("postnet", **SMALL).fit(blobs(1))
    with pytest.raises(DataError, match="labels"):
        create_head("postnet", **SMALL).fit(dataclasses.replace(blobs(), labels=None))


def test_mixtures_of_gaussians_are_those_of_pytorch():
    mixtures = GaussianMixtures(3, 4, 5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        mixtures.factors.mul_(50)
    rows = 3 * torch.randn(20, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = []
    for weights, means, raw in zip(*(part.double() for part in mixtures.parameters()), strict=True):
        scales = raw.diagonal(dim1=1, dim2=2).exp() + 1e-3
        gaussians = MultivariateNormal(means, scale_tril=torch.tril(raw, -1) + torch.diag_embed(scales))
        expected.append(MixtureSameFamily(Categorical(logits=weights), gaussians).log_prob(rows))
    torch.testing.assert_close(mixtures.log_density(rows), torch.stack(expected, 1), rtol=1e-9, atol=1e-9)


def test_the_density_of_each_class_can_be_a_mixture(tmp_path):
    head = create_head("postnet", "published", **SMALL).fit(blobs())
    assert (head.density, head.criterion, head.space) == ("normal-mixture", "loss", "none")
    assert head.state["model.flows.means"].shape == (3, SMALL["layers"], SMALL["latent"])
    test = blobs(200, seed=1)
    assert (head.classify(test).argmax(1) == test.labels).mean() > 0.9
    assert (
        roc_auc_score(
            np.repeat([0, 1], 200), np.r_[head.score(test), head.score(blobs(200, 2, CENTERS - 12))]
        )
        > 0.9
    )
    np.testing.assert_array_equal(load_head(head.save(tmp_path / "h")).score(test), head.score(test))


def test_the_state_is_chosen_by_accuracy_or_by_the_loss():
    train = blobs()
    for criterion in ("accuracy", "loss"):
        head = create_head("postnet", **{**SMALL, "validation": 0.3}, criterion=criterion)
        model = head.build(3, 3, torch.Generator().manual_seed(0)).eval()
        model.counts.fill_(50)
        rows, labels = torch.from_numpy(train.features["avg"]), torch.from_numpy(train.labels)
        log_alpha = np.log1p(np.exp(head.log_evidence(model, rows).detach().numpy()))
        alpha = np.exp(log_alpha)
        loss = (digamma(alpha.sum(1)) - digamma(alpha[np.arange(300), train.labels])).mean()
        loss -= 1e-5 * np.mean([dirichlet(row).entropy() for row in alpha])
        wrong = (alpha.argmax(1) != train.labels).mean()
        expected = loss if criterion == "loss" else wrong + 1e-4 * loss
        assert float(head.validation_loss(model, rows, labels, None).detach()) == pytest.approx(expected)
