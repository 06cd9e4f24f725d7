"""Detectors of a model: scores by naive loops, what a fit uses, and errors."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import featood.detectors as d
from featood.errors import DataError, UsageError

GENERATOR = torch.Generator().manual_seed(1)


def normal(*shape):
    return torch.randn(shape, generator=GENERATOR)


def seeded(module):
    for value in module.parameters():
        value.data = normal(*value.shape)
    return module.eval()


ENCODER, LAST = seeded(nn.Sequential(nn.Linear(5, 4), nn.Tanh())), seeded(nn.Linear(4, 3))
MODEL = nn.Sequential(ENCODER, LAST)
X, Y = normal(90, 5), torch.arange(90) % 3
NEW = normal(12, 5)
LOADER = DataLoader(TensorDataset(X, Y), batch_size=20)
MIXED = DataLoader(
    TensorDataset(torch.cat([X, 50 + normal(30, 5)]), torch.cat([Y, -Y[:30] - 1])), batch_size=7
)

FITTED = {
    "KLMatching": lambda: d.KLMatching(MODEL),
    "Mahalanobis": lambda: d.Mahalanobis(ENCODER),
    "RMD": lambda: d.RMD(ENCODER),
    "GMM": lambda: d.GMM(ENCODER),
    "KNN": lambda: d.KNN(ENCODER, k=3),
    "NNGuide": lambda: d.NNGuide(ENCODER, LAST),
    "fDBD": lambda: d.fDBD(ENCODER, LAST),
    "NCI": lambda: d.NCI(ENCODER, LAST),
    "PNML": lambda: d.PNML(ENCODER, LAST),
    "SHE": lambda: d.SHE(ENCODER, LAST),
    "ViM": lambda: d.ViM(ENCODER, 2, LAST.weight, LAST.bias),
    "DICE": lambda: d.DICE(ENCODER, LAST.weight, LAST.bias, 0.5),
    "ReAct": lambda: d.ReAct(ENCODER, LAST),
    "VRA": lambda: d.VRA(ENCODER, LAST),
    "MahalanobisODIN": lambda: d.MahalanobisODIN(ENCODER),
    "MultiMahalanobis": lambda: d.MultiMahalanobis([ENCODER[0], ENCODER[1]]),
    "Gram": lambda: d.Gram(LAST, [ENCODER[0], ENCODER[1]], 3),
    "NACUE": lambda: d.NACUE(MODEL, [ENCODER[1]]),
}


def test_energies_are_those_of_a_loop():
    logits = MODEL(NEW).tolist()
    expected = [-2.0 * math.log(sum(math.exp(value / 2.0) for value in row)) for row in logits]
    assert d.NegativeEnergy(MODEL, t=2.0)(NEW).tolist() == pytest.approx(expected, rel=1e-6)


def test_mahalanobis_distances_are_those_of_a_loop():
    with torch.no_grad():
        z, new = ENCODER(X).double().numpy(), ENCODER(NEW).double().numpy()
    means = np.stack([z[c == Y].mean(0) for c in range(3)])
    scatter = sum(np.outer(row - means[c], row - means[c]) for row, c in zip(z, Y.tolist(), strict=True))
    inverse = np.linalg.inv(scatter / len(z))
    expected = [min((row - m) @ inverse @ (row - m) for m in means) for row in new]
    assert d.Mahalanobis(ENCODER).fit(LOADER)(NEW).tolist() == pytest.approx(expected, rel=1e-4)


def test_distances_to_neighbours_are_those_of_a_loop():
    with torch.no_grad():
        z, new = ENCODER(X).double().numpy(), ENCODER(NEW).double().numpy()
    z, new = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (z, new))
    expected = [sorted(np.linalg.norm(z - row, axis=1))[3] for row in new]
    assert d.KNN(ENCODER, k=4).fit(LOADER)(NEW).tolist() == pytest.approx(expected, rel=1e-4)


def test_gradient_norms_of_the_last_layer_are_those_of_a_loop():
    expected = []
    for row in NEW:
        MODEL.zero_grad()
        (-MODEL(row[None]).log_softmax(1).mean()).backward()
        expected.append(-float(LAST.weight.grad.abs().sum() + LAST.bias.grad.abs().sum()))
    found = d.GradNorm(MODEL, lambda name: name in ("1.weight", "1.bias"), micro_batch_size=5)(NEW)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_clipped_and_reshaped_activations_are_those_of_a_loop():
    with torch.no_grad():
        train, new = ENCODER(X).numpy(), ENCODER(NEW).numpy()
        limit = np.quantile(train, 0.9)
        clipped = LAST(torch.from_numpy(np.minimum(new, np.float32(limit))))
    assert torch.allclose(d.ReAct(ENCODER, LAST).fit(LOADER)(NEW), -clipped.logsumexp(1).double(), atol=1e-5)
    lower, upper = np.quantile(train, [0.2, 0.7], axis=0).astype(np.float32)
    shaped = np.where(new < lower, 0, np.minimum(new, upper))
    with torch.no_grad():
        expected = -LAST(torch.from_numpy(shaped)).logsumexp(1).double()
    assert torch.allclose(d.VRA(ENCODER, LAST, 0.2, 0.7).fit(LOADER)(NEW), expected, atol=1e-5)


def test_dropout_scores_are_those_of_many_passes():
    net = nn.Sequential(ENCODER, nn.Dropout(0.5), LAST).eval()
    state = torch.get_rng_state()
    found = {mode: d.MCD(net, samples=2000, mode=mode)(NEW) for mode in ("var", "mean")}
    assert torch.equal(torch.get_rng_state(), state) and not net.training
    assert torch.equal(found["var"], d.MCD(net, samples=2000)(NEW))
    net[1].train()
    torch.manual_seed(0)
    with torch.no_grad():
        p = torch.stack([net(NEW).softmax(1) for _ in range(2000)]).double()
    assert torch.allclose(found["var"], p.var(0).mean(1), atol=1e-2)
    assert torch.allclose(found["mean"], -p.mean(0).amax(1), atol=4e-2)
    assert torch.allclose(d.MCD.run_mean(net.eval(), NEW, 2000), p.mean(0), atol=4e-2)


def test_passes_of_a_model_without_dropout_are_equal():
    pixels = seeded(nn.Conv2d(3, 4, 1))
    x = normal(2, 3, 5, 6)
    with torch.no_grad():
        p = pixels(x).softmax(1).double()
    for mode, expected in (("var", torch.zeros(2, 5, 6).double()), ("mean", -p.amax(1))):
        with pytest.warns(UserWarning, match="no dropout"):
            assert torch.allclose(d.MCD(pixels, samples=4, mode=mode)(x), expected)
    with pytest.warns(UserWarning, match="no dropout"):
        assert torch.allclose(d.MCD.run_mean(pixels, x, 4), p)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FITTED)
def test_a_fit_is_needed_and_ignores_outliers(name):
    with pytest.raises(d.RequiresFittingException):
        FITTED[name]()(NEW)
    clean, mixed = FITTED[name]().fit(LOADER), FITTED[name]().fit(MIXED, device="cpu")
    assert clean(NEW).shape == (12,)
    if name != "Gram":  # which holds out other rows
        assert torch.allclose(clean(NEW), mixed(NEW), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "KLMatching",
        "Mahalanobis",
        "KNN",
        "SHE",
        "ViM",
        "DICE",
        "ReAct",
        "VRA",
        "TemperatureScaling",
        "OpenMax",
    ],
)
def test_scores_of_representations_are_those_of_inputs(name):
    make = {
        **FITTED,
        "TemperatureScaling": lambda: d.TemperatureScaling(MODEL),
        "OpenMax": lambda: d.OpenMax(MODEL, tailsize=5),
    }[name]
    kind = next(k for k in ("logits", "features", "feature_maps") if hasattr(make(), f"predict_{k}"))
    with torch.no_grad():
        first = MODEL if kind == "logits" else ENCODER
        train, new = first(X), first(NEW)
    alone = make()
    getattr(alone, f"fit_{kind}")(train, Y)
    assert torch.allclose(getattr(alone, f"predict_{kind}")(new), make().fit(LOADER)(NEW), rtol=1e-5)


@pytest.mark.parametrize("cls", [d.EnergyBased, d.MaxSoftmax, d.MaxLogit, d.Entropy, d.GEN])
def test_every_pixel_counts_as_a_row(cls):
    logits = normal(2, 4, 3, 5)
    found = cls.score(logits)
    assert found.shape == (2, 3, 5)
    assert torch.equal(found[1, 2], cls.score(logits[1, :, 2].T))


def test_scores_do_not_tie_where_probabilities_round_to_one():
    logits = torch.tensor([[40.0, 0.0], [50.0, 0.0]])
    assert float(logits.softmax(1)[0, 0]) == float(logits.softmax(1)[1, 0]) == 1
    scores = d.TemperatureScaling(None).fit_logits(normal(30, 2), Y[:30] % 2).predict_logits(logits)
    assert scores[0] > scores[1]


def test_a_detector_without_a_model_scores_only_representations():
    assert d.EnergyBased(None).predict_logits(normal(3, 4)).shape == (3,)
    for use in (lambda: d.EnergyBased(None)(NEW), lambda: d.KNN(None).fit(LOADER), lambda: d.GradNorm(None)):
        with pytest.raises(d.ModelNotSetException):
            use()
    for use in (lambda: d.PNML(ENCODER, None).fit(LOADER), lambda: d.SHE(ENCODER, None).fit(LOADER)):
        with pytest.raises(d.ModelNotSetException, match="need the head"):
            use()
    assert issubclass(d.ModelNotSetException, ValueError)


def test_changed_options_need_another_fit():
    detector = d.KNN(ENCODER, k=2).fit(LOADER)
    before = detector(NEW)
    detector.set_hyperparameters(k=5)
    with pytest.raises(d.RequiresFittingException, match="k changed"):
        detector(NEW)
    assert bool((detector.fit(LOADER)(NEW) > before).all())
    with pytest.raises(UsageError, match="has no hyperparameter 'q'"):
        detector.set_hyperparameters(q=1)


def test_wrong_uses_are_explained():
    with pytest.raises(DataError, match="no known inputs"):
        d.Mahalanobis(ENCODER).fit([(X, -torch.ones(90))])
    with pytest.raises(UsageError, match=r"torch\.nn\.Linear"):
        d.fDBD(ENCODER, MODEL).fit(LOADER)
    with pytest.raises(UsageError, match="var or mean"):
        d.MCD(MODEL, mode="median")
    with pytest.raises(UsageError, match="at least 2 samples, not 1"):
        d.MCD(MODEL, samples=1)
    with pytest.raises(UsageError, match="ash-s, ash-p and ash-b"):
        d.ASH(ENCODER, LAST, "ash-x")
    for make in (
        lambda: d.ReAct(ENCODER, LAST, percentile=90.0),
        lambda: d.VRA(ENCODER, LAST, 0.9, 0.1),
        lambda: d.DICE(ENCODER, LAST.weight, LAST.bias, p=65.0),
        lambda: d.KNN(ENCODER, k=0),
        lambda: d.EnergyBased(MODEL, t=-1.0),
    ):
        with pytest.raises(UsageError):
            make()
    with pytest.raises(UsageError, match="none of the model's parameters"):
        d.GradNorm(MODEL, lambda name: False)(NEW)
    with pytest.raises(UsageError, match="no submodule Linear"):
        d.NACUE(MODEL, [nn.Linear(2, 2)]).fit(LOADER)


def test_parameters_and_devices_are_those_of_the_model():
    detector = d.fDBD(ENCODER, LAST)
    assert {id(p) for p in detector.parameters()} == {id(p) for p in MODEL.parameters()}
    assert detector.to("cpu").device == torch.device("cpu")
    net = d.WideResNet(num_classes=2, depth=10)
    assert len(list(d.ASH(net.feature_maps, net.forward_feature_maps).parameters())) == 2 * len(
        list(net.parameters())
    )


def test_a_fitted_head_can_be_saved(tmp_path):
    from featood import load_head

    detector = d.Mahalanobis(ENCODER).fit(LOADER)
    detector.head_.save(tmp_path / "head")
    with torch.no_grad():
        assert torch.equal(load_head(tmp_path / "head").score(ENCODER(NEW)), detector(NEW))


def test_odin_works_in_inference_mode():
    with torch.inference_mode():
        found = d.ODIN(MODEL, eps=0.1)(NEW)
    assert torch.equal(found, d.ODIN(MODEL, eps=0.1)(NEW))


def test_targets_are_mapped():
    mapping = d.TargetMapping(known={9, 2, 4}, unknown={0, 5})
    assert [mapping(c) for c in (2, 4, 9, 0, torch.tensor(5), 7)] == [0, 1, 2, -1, -6, -1]
    assert d.ToUnknown()(3) == -1
    assert d.is_known(Y).all() and not d.contains_unknown(Y)
    with pytest.raises(UsageError, match="both known and unknown"):
        d.TargetMapping({1}, {1, 2})
