import copy

import numpy as np
import pytest
import torch
from draws import two_gaussians
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, spearmanr

from featood.cache.feature_set import FeatureSet
from featood.energies import GaussianBase, TiltedNet, contrastive_divergence, free_energy, learned_energy
from featood.errors import DataError, UsageError
from featood.heads import create_head, load_head
from featood.heads.artefacts.earlier import ENERGIES, earlier_options
from featood.heads.registry import head_class

MEANS = np.array([[0.0, 0, 0], [4, 1, 0], [0, 6, -3]])
MIX = np.array([[1.0, 0.5, 0.0], [0, 0.7, 0.2], [0, 0, 0.1]])
SHARES = (0.5, 0.3, 0.2)


def classes(rows=900, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1, 2], [round(share * rows) for share in SHARES]))
    return torch.from_numpy(MEANS[labels] + rng.normal(size=(rows, 3)) @ MIX), torch.from_numpy(labels)


def fitted(ridge=0.0):
    base = GaussianBase(3, 3).double()
    base.fit(*classes(), ridge)
    return base


def naive(rows, ridge=0.0):
    """Log-densities of classes with their shares, in the units of the rows."""
    train, labels = (values.numpy() for values in classes())
    means = [train[labels == number].mean(0) for number in range(3)]
    within = sum((train[labels == n] - mean).T @ (train[labels == n] - mean) for n, mean in enumerate(means))
    within = within / len(train)
    within += ridge * np.trace(within) / 3 * np.eye(3)
    joint = [
        np.log(share) + multivariate_normal(mean, within).logpdf(rows)
        for share, mean in zip(SHARES, means, strict=True)
    ]
    return np.stack(joint, 1), np.linalg.slogdet(within)[1]


@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_densities_are_those_of_gaussian_classes_with_one_covariance(ridge):
    base, (rows, _) = fitted(ridge), classes(50, seed=1)
    expected, log_det = naive(rows.numpy(), ridge)
    found = base(base.whiten(rows)) - 0.5 * log_det  # whitening changes volumes
    # constants and shares are those of a module in float32
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-6)
    mixture = base.log_density(base.whiten(rows)) - 0.5 * log_det
    np.testing.assert_allclose(mixture, logsumexp(expected, 1), rtol=1e-6)


def test_samples_have_means_and_covariance_of_the_classes():
    base = fitted()
    drawn = base.sample(60_000, torch.Generator().manual_seed(0))
    rows, _ = classes()
    white = base.whiten(rows)
    torch.testing.assert_close(drawn.mean(0), white.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.T.cov(), white.T.cov(correction=0), rtol=0.03, atol=0.15)
    nearest = torch.cdist(drawn, base.means).argmin(1)
    shares = torch.bincount(nearest, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor(SHARES), rtol=0.03, atol=0)


def test_a_class_without_rows_has_no_density():
    base, (rows, labels) = GaussianBase(3, 3).double(), classes()
    base.fit(rows[labels > 0], labels[labels > 0], 0.0)
    values = base(base.whiten(rows))
    assert bool((values[:, 0] == -torch.inf).all()) and bool(torch.isfinite(base.log_density(rows)).all())
    with pytest.raises(DataError, match="covariance within classes is zero"):
        GaussianBase(3, 1).fit(torch.ones(5, 3), torch.zeros(5, dtype=torch.long), 0.0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_tilted_net_adds_log_densities(outputs):
    base, net = fitted(), torch.nn.Linear(3, outputs).double()
    rows = base.whiten(classes(40, seed=2)[0])
    found = TiltedNet(net, base)(rows)
    joint = base(rows).numpy()
    expected = joint if outputs == 3 else logsumexp(joint, 1, keepdims=True)
    torch.testing.assert_close(found, net(rows) + torch.from_numpy(expected))
    learned = learned_energy(TiltedNet(net, base))(rows)
    whole = free_energy(TiltedNet(net, base))(rows)
    np.testing.assert_allclose((whole - learned).detach(), -logsumexp(joint, 1))
    assert torch.equal(learned_energy(net)(rows), free_energy(net)(rows))


def test_contrastive_gradients_are_the_same_for_the_learned_part():
    base, (rows, _) = fitted(), classes(80, seed=3)
    tilted = TiltedNet(torch.nn.Linear(3, 3).double(), base)
    gradients = []
    for energy in (free_energy(tilted), learned_energy(tilted)):
        tilted.zero_grad()
        contrastive_divergence(energy, base.whiten(rows[:40]), base.whiten(rows[40:]), l2=0.0)[
            "loss"
        ].backward()
        gradients.append(copy.deepcopy(tilted.net.weight.grad))
    torch.testing.assert_close(*gradients)


TRAINED = {"space": "none", "epochs": 15, "width": 16, "depth": 2, "batch_size": 100, "lr": 1e-3}
SAMPLED = {"sgld_steps": 5, "buffer_size": 500}
OPTIONS = {
    "nce": {}, "ssm": {}, "ssm-supervised": {}, "conditional-nce": {}, "flow-nce": {"flow_layers": 1},
    "cd": SAMPLED, "jem": SAMPLED, "entropy-mcmc": SAMPLED, "epn-m": SAMPLED,
    "vera": {"draws": 4}, "vera-supervised": {"draws": 4}, "epn-v": {"draws": 4}, "vera-posterior": {"draws": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_heads_stay_near_the_density_of_gaussian_classes_where_it_is_right(name, tmp_path):
    rows, labels = classes()
    data = FeatureSet({"x": rows.numpy()}, labels=labels.numpy())
    head = create_head(name, **TRAINED, **OPTIONS[name]).fit(data)
    grid = 3 * np.random.default_rng(5).normal(size=(500, 3)) @ MIX + MEANS[np.arange(500) % 3]
    points = FeatureSet({"x": grid})
    scores = head.score(points)
    assert spearmanr(scores, -logsumexp(naive(grid)[0], 1))[0] > 0.85
    logits = head.classify(points)
    if logits is not None:
        right = np.asarray(head.classify(data)).argmax(1) == labels.numpy()
        assert right.mean() > 0.97
    np.testing.assert_array_equal(load_head(head.save(tmp_path / "head")).score(points), scores)


def test_every_head_with_a_base_is_tested():
    assert set(OPTIONS) == set(ENERGIES)
    for name in ENERGIES:
        assert earlier_options(head_class(name), {})["base"] == "none"


def test_a_network_learns_what_the_base_has_wrong():
    """Rows without labels in two groups: a single normal distribution has its mean where there are none."""
    data = two_gaussians()
    data = FeatureSet({"x": data.features["x"]})
    options = {**TRAINED, "epochs": 60, "lr": 3e-3, "width": 32, "activation": "silu"}
    labels, rows = two_gaussians().labels, data.features["x"]
    places = np.stack([rows.mean(0), rows[labels == 0].mean(0), rows[labels == 1].mean(0)])
    for name in ("nce", "conditional-nce"):
        head = create_head(name, **options).fit(data)
        middle, *groups = head.score(FeatureSet({"x": places}))
        assert middle > max(groups) + 0.5


def test_bfloat16_needs_no_base():
    with pytest.raises(UsageError, match="sampler_precision=float32, or base=none"):
        create_head("cd", sampler_precision="bfloat16")
