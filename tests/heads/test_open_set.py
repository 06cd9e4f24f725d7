import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from featood import losses
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head, load_head
from featood.heads.base.asking import ask
from featood.heads.base.fit import FitContext
from featood.heads.open_set.open_set import OBJECTIVES
from featood.pipeline.fitted_heads import with_score
from featood.testing import Subject, iter_checks

CENTERS = np.array([[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0]])
SMALL = {"epochs": 20, "batch_size": 50, "width": 32, "depth": 1, "lr": 1e-2}
NEEDY = [name for name, kind in OBJECTIVES.items() if kind.outliers == "needed"]


def blobs(rows=400, outliers=200, seed=0):
    """Three classes, and outliers between them and off their plane."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.integers(0, 3, rows), np.full(outliers, -1)])
    centers = np.vstack([CENTERS, [*CENTERS.mean(0)[:3], 2.0]])
    spread = np.where(labels < 0, 0.7, 1.0)[:, None]
    features = centers[labels] + spread * rng.normal(size=(len(labels), 4))
    return FeatureSet({"avg": features.astype(np.float32)}, labels=labels)


TRAIN, TEST = blobs(), blobs(seed=1)
KNOWN = TRAIN.rows(TRAIN.labels >= 0)
OUT = TEST.labels < 0


def network(head):
    """The trained network, and the test rows as it sees them."""
    model, state = head.prepare(head.state)
    return model, (torch.from_numpy(TEST.features["avg"]).double() - state["space.center"]) / state[
        "space.scale"
    ]


def auroc(head, data=TEST):
    return roc_auc_score(OUT, head.score(data))


# ---- every objective


@pytest.fixture(scope="module")
def fitted():
    heads = {}

    def fit(objective, outliers=True):
        key = objective, outliers
        if key not in heads:
            heads[key] = create_head("open-set", objective=objective, **SMALL).fit(
                TRAIN if outliers else KNOWN
            )
        return heads[key]

    return fit


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_finds_outliers(objective, fitted):
    assert auroc(fitted(objective)) > (0.65 if objective == "deep-svdd" else 0.9)


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name not in NEEDY])
def test_without_outliers_too(objective, fitted):
    alone = fitted(objective, outliers=False)
    assert auroc(alone) > (0.65 if objective == "deep-svdd" else 0.9)
    same = np.array_equal(alone.score(TEST), fitted(objective).score(TEST))
    assert same == (objective not in ("vos", "mchad"))


@pytest.mark.parametrize("objective", ["vos", "mchad", *NEEDY])
def test_outliers_are_learnt_from(objective, fitted):
    assert auroc(fitted(objective)) > 0.98
    assert auroc(fitted(objective)) > auroc(fitted("cross-entropy"))


@pytest.mark.parametrize("objective", NEEDY)
def test_outliers_are_asked_for(objective):
    with pytest.raises(
        DataError, match=f"^open-set --objective {objective} learns from outliers: add --outliers"
    ):
        create_head("open-set", objective=objective, **SMALL).fit(KNOWN)


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if not name.startswith("deep")])
def test_every_objective_with_classes_tells_them_apart(objective, fitted):
    assert (fitted(objective).classify(TEST).argmax(1) == TEST.labels)[~OUT].mean() > 0.9


@pytest.mark.parametrize("objective", ["confidence", "vos", "ii", "mchad", "deep-svdd", "scone"])
@pytest.mark.parametrize(
    "check",
    [check for check in iter_checks() if check.name in ("fit_again", "save_and_load", "sparse_classes")],
    ids=str,
)
def test_promises(check, objective):
    check(Subject.of("open-set", objective=objective, epochs=4))


@pytest.mark.parametrize(
    "options", [{"precision": "bfloat16"}, {"validation": 0.2}, {"lipschitz": 3.0}], ids=str
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_can_be_trained_otherwise(objective, options):
    if objective in ("energy-bounded", "scone") and "validation" in options:
        pytest.skip("refused, see below")
    head = create_head("open-set", objective=objective, **SMALL | {"epochs": 3}, **options).fit(TRAIN)
    assert not head.record.training["diverged"] and np.isfinite(head.score(TEST)).all()


# ---- scores, each by its formula


def test_scores_of_logits(fitted):
    head = fitted("cross-entropy")
    model, rows = network(head)
    logits = model.logits(rows)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = {
        "auto": 1 - p.max(1).values,
        "msp": 1 - p.max(1).values,
        "max-logit": -logits.max(1).values,
        "energy": -logits.exp().sum(1).log(),
    }
    for which, scores in expected.items():
        np.testing.assert_allclose(ask(head, which).score(TEST), scores, rtol=1e-6, atol=1e-12, err_msg=which)


def test_own_scores(fitted):
    def check(objective, score):
        head = fitted(objective)
        model, rows = network(head)
        np.testing.assert_allclose(
            head.score(TEST), score(model, rows), rtol=1e-6, atol=1e-9, err_msg=objective
        )

    def nearest(model, rows):
        embedding = model.embed(rows).numpy()
        return np.array([min(np.linalg.norm(z - c) for c in model.centers.numpy()) for z in embedding])

    for objective in ("center", "ii", "mchad", "deep-svdd", "deep-sad"):
        check(objective, nearest)

    def rejection(model, rows):
        d = np.array([[np.linalg.norm(z - 10 * e) for e in np.eye(3)] for z in model.embed(rows).numpy()])
        return (d * (1 - np.exp(-d) / np.exp(-d).sum(1, keepdims=True))).min(1)

    check("cac", rejection)
    check("background", lambda model, rows: model.outputs(rows).softmax(1)[:, 3].logit())
    check("confidence", lambda model, rows: -model.outputs(rows)[:, 3])
    check(
        "objectosphere",
        lambda model, rows: -model.logits(rows).softmax(1).amax(1) * model.features(rows).norm(dim=1),
    )
    check("vos", lambda model, rows: -(model.log_weights.exp() * model.logits(rows).exp()).sum(1).log())
    for objective in ("energy-bounded", "scone"):
        check(objective, lambda model, rows: -model.logits(rows).exp().sum(1).log())


def test_one_class_networks_have_one_score(fitted):
    head = fitted("deep-sad")
    assert head.classify(TEST) is None
    assert head.scores == ("auto",) and with_score({"one": head}, "all").keys() == {"one[auto]"}
    with pytest.raises(UsageError, match="no score 'msp'"):
        ask(head, "msp")
    with pytest.raises(UsageError, match=r"deep-svdd has no score 'msp', only its own; omit --which"):
        create_head("open-set", objective="deep-svdd", which="msp")


def test_which_objectives_learn_from_outliers():
    learn = {name for name in OBJECTIVES if create_head("open-set", objective=name).takes_outliers}
    assert {"vos", "mchad", "deep-sad", "scone"} < learn and not learn & {
        "cac",
        "cross-entropy",
        "ii",
        "deep-svdd",
    }


# ---- what the objectives remember


def test_deep_svdd_has_no_biases_and_keeps_its_center(fitted):
    names = list(fitted("deep-svdd").state)
    assert not [name for name in names if name.endswith("bias")]
    untrained = create_head("open-set", objective="deep-svdd", **SMALL | {"lr": 0.0}).fit(TRAIN)
    assert torch.equal(untrained.state["model.centers"], fitted("deep-svdd").state["model.centers"])
    model, rows = untrained.prepare(untrained.state)[0], network(untrained)[1]
    values = TRAIN.features["avg"][TRAIN.labels >= 0].astype(float)
    rows = (torch.from_numpy(values) - untrained.state["space.center"]) / untrained.state["space.scale"]
    mean = model.embed(rows).mean(0)
    expected = torch.where(mean.abs() < 0.1, 0.1 * torch.where(mean < 0, -1.0, 1.0), mean)
    torch.testing.assert_close(untrained.state["model.centers"][0].double(), expected, rtol=1e-4, atol=1e-5)


def test_running_centers_are_near_the_means(fitted):
    model, _ = fitted("ii", outliers=False).prepare(fitted("ii", outliers=False).state)
    state = fitted("ii", outliers=False).state
    rows = (torch.from_numpy(KNOWN.features["avg"]).double() - state["space.center"]) / state["space.scale"]
    means, _ = losses.class_means(model.embed(rows), torch.from_numpy(KNOWN.labels), 3)
    apart = torch.pdist(means).min()
    assert (model.centers - means).norm(dim=1).max() < 0.1 * apart


def test_virtual_outliers_follow_the_features():
    head = create_head("open-set", objective="vos", **SMALL)
    model = head.build(4, 3, torch.Generator().manual_seed(0))
    rows, labels = torch.from_numpy(KNOWN.features["avg"]), torch.from_numpy(KNOWN.labels)

    def check():
        features = model.features(rows).detach()
        means = torch.stack([features[labels == c].mean(0) for c in range(3)])
        apart = features - means[labels]
        torch.testing.assert_close(model.means, means, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.covariance, apart.T @ apart / 400, atol=1e-5, rtol=1e-4)

    model.start(rows, labels, 8, 160)
    check()
    with torch.no_grad():
        model.body[0].weight *= 2
    for _ in range(150):  # what is left of the first moments is 0.9^150
        model.losses(rows, labels, torch.Generator())
    check()
    spread = float(model.covariance.trace())
    for row in range(400):  # batches of one row have no spread around their own means
        model.losses(rows[[row]], labels[[row]], torch.Generator())
    assert float(model.covariance.trace()) == pytest.approx(spread, rel=0.4)


def test_the_price_of_confidence_keeps_to_its_budget():
    head = create_head("open-set", objective="confidence", **SMALL)
    model = head.build(4, 3, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    rows, labels = torch.from_numpy(KNOWN.features["avg"]), torch.from_numpy(KNOWN.labels)
    before = float(model.price)
    spent = float(model.losses(rows, labels, generator)["price"].detach())
    assert float(model.price) == pytest.approx(before / (0.99 if spent > 0.3 else 1.01))
    model.eval()
    before = float(model.price)
    model.losses(rows, labels, generator)
    assert float(model.price) == before


def phases(options, steps=40):
    """The losses of a training on one batch, half of it cross-entropy."""
    head = create_head(**options, **SMALL)
    model = head.build(4, 3, torch.Generator().manual_seed(0))
    rows, labels = torch.from_numpy(TRAIN.features["avg"]), torch.from_numpy(TRAIN.labels)
    model.start(rows, labels, 5, steps)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        parts = model.losses(rows, labels, torch.Generator())
        parts["loss"].backward()
        history.append({name: float(value.detach()) for name, value in parts.items()})
        history[-1] |= {"logits": model.logits(rows).detach()}
        optimizer.step()
    return model, history


def test_bounds_are_quantiles_of_the_first_energies_of_the_second_phase():
    model, history = phases({"name": "energy-finetune"})
    assert ["bounded" in parts for parts in history] == [False] * 20 + [True] * 20
    energy = -history[20]["logits"].logsumexp(1).numpy()
    known, out = energy[TRAIN.labels >= 0], energy[TRAIN.labels < 0]
    low, high = np.quantile(known, 0.25), max(np.quantile(known, 0.75), np.quantile(out, 0.75))
    assert model.bounds.tolist() == pytest.approx([low, high], rel=1e-4)
    first = np.mean(np.maximum(known - low, 0) ** 2) + np.mean(np.maximum(high - out, 0) ** 2)
    assert history[20]["bounded"] == pytest.approx(first, rel=1e-4)
    assert history[20]["loss"] == pytest.approx(history[20]["classification"] + 0.1 * first, rel=1e-4)
    model, _ = phases({"name": "energy-finetune", "m_in": -9.5})
    assert model.bounds[0] == -9.5 and model.bounds[1] == pytest.approx(high)


def test_multipliers_move_once_an_epoch():
    model, history = phases({"name": "open-set", "objective": "scone"}, steps=20)
    assert ["missed" in parts for parts in history] == [False] * 10 + [True] * 10
    reference = history[0]["classification"]
    for parts in history[:10]:
        reference += (parts["classification"] - reference) / 5
    assert float(model.reference) == pytest.approx(reference, rel=1e-5)
    multipliers, penalties = torch.zeros(2), torch.ones(2)
    for epoch in (history[10:15], history[15:20]):
        broken = [[parts["flagged"] - 0.05, parts["classification"] - 2 * reference] for parts in epoch]
        multipliers, penalties = losses.updated_multipliers(
            torch.tensor(broken).mean(0), multipliers, penalties
        )
    torch.testing.assert_close(model.multipliers, multipliers, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.penalties, penalties)


def test_an_interrupted_fit_ends_the_same(tmp_path):
    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 125:
            raise Killed

    head = create_head("open-set", objective="scone", **SMALL)
    whole = create_head("open-set", objective="scone", **SMALL).fit(TRAIN)
    with pytest.raises(Killed):
        head.fit(TRAIN, context=FitContext(stop, tmp_path / "fit"))
    head.fit(TRAIN, context=FitContext(checkpoint=tmp_path / "fit"))
    for name, value in whole.state.items():
        assert torch.equal(head.state[name], value), name


# ---- options


def test_settings_reach_the_network():
    def settings(objective, **options):
        head = create_head("open-set", objective=objective, **options)
        return head.build(4, 3, torch.Generator()).settings

    assert settings("logit-norm") == {"temperature": 0.04}
    assert settings("logit-norm", temperature=0.1) == {"temperature": 0.1}
    assert settings("mchad", weight=2.0, margin=7.0, latent=5) == {"weight": 2.0, "margin": 7.0, "latent": 5}
    assert settings("objectosphere", margin=7.0)["margin"] == 7.0
    head = create_head("energy-finetune", weight=0.2, m_out=-3.0, pretraining=0.25)
    found = head.build(4, 3, torch.Generator()).settings
    assert math.isnan(found.pop("m_in")) and found == {"weight": 0.2, "m_out": -3.0, "pretraining": 0.25}
    assert create_head("outlier-exposure", weight=0.7).build(4, 3, torch.Generator()).settings == {
        "weight": 0.7
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"objective": "cac", "temperature": 2.0}, "cac has no option temperature"),
        ({"objective": "vos", "weight": -1.0}, "weight must be a number from 0"),
        ({"objective": "scone", "pretraining": 1.5}, "from 0 to 1, not 1.5"),
        ({"objective": "ii", "margin": math.nan}, "margin must be a number"),
        ({"objective": "ii", "margin": "wide"}, "margin must be a number"),
    ],
)
def test_settings_that_an_objective_does_not_have(options, text):
    with pytest.raises(UsageError, match=text):
        create_head("open-set", **options)


def test_bounds_in_the_wrong_order():
    with pytest.raises(UsageError, match="m_in must not exceed m_out"):
        create_head("energy-finetune", m_in=-2.0, m_out=-8.0)


@pytest.mark.parametrize(
    "options", [{"name": "open-set", "objective": "scone"}, {"name": "energy-finetune"}], ids=str
)
def test_two_phases_cannot_stop_by_held_out_rows(options):
    head = create_head(**options, **SMALL, validation=0.2)
    with pytest.raises(UsageError, match="two phases with different losses"):
        head.fit(TRAIN)
    head.fit(TRAIN, context=FitContext(validate_on=blobs(50, 100, seed=3).rows(slice(50, None))))
    assert auroc(head) > 0.95


# ---- the heads of one objective


@pytest.mark.parametrize("name", ["outlier-exposure", "energy-finetune"])
def test_heads_that_need_outliers(name, tmp_path):
    head = create_head(name, **SMALL).fit(TRAIN)
    assert auroc(head) > 0.98
    same = create_head(
        "open-set", objective={"energy-finetune": "energy-bounded"}.get(name, name), **SMALL
    ).fit(TRAIN)
    assert np.array_equal(head.score(TEST), same.score(TEST))
    head.save(tmp_path / "head")
    assert np.array_equal(load_head(tmp_path / "head").score(TEST), head.score(TEST))
    with pytest.raises(DataError, match=f"^{name} learns from outliers: add --outliers"):
        create_head(name, **SMALL).fit(KNOWN)
