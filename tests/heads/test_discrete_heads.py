"""Energies of token sequences."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.energies import TokenChains
from featood.errors import DataError, UsageError
from featood.heads import create_head

LENGTH, TOKENS = 4, 3
OPTIONS = {"tokens": TOKENS, "width": 32, "depth": 2, "lr": 3e-3, "batch_size": 200, "buffer_size": 1000}


def markov(rows, seed=0):
    """Draw sequences of a Markov chain that mostly repeats a token."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(TOKENS, size=(rows, LENGTH))
    for place in range(1, LENGTH):
        again = rng.random(rows) < 0.8
        tokens[again, place] = tokens[again, place - 1]
    return FeatureSet({"tokens": tokens.astype(np.float32)})


def every_sequence():
    grids = np.meshgrid(*[np.arange(TOKENS)] * LENGTH, indexing="ij")
    tokens = np.stack(grids, -1).reshape(-1, LENGTH)
    repeats = (tokens[:, 1:] == tokens[:, :-1]).sum(1)
    # a token is repeated with probability 0.8 + 0.2 / 3
    log_p = repeats * np.log(0.8 + 0.2 / TOKENS) + (LENGTH - 1 - repeats) * np.log(0.2 / TOKENS)
    return FeatureSet({"tokens": tokens.astype(np.float32)}), log_p


def test_the_energy_orders_sequences_as_their_probability_does():
    head = create_head("discrete-cd", **OPTIONS, epochs=40, steps=10).fit(markov(2000))
    sequences, log_p = every_sequence()
    scores = head.score(sequences)
    assert spearmanr(scores, -log_p)[0] > 0.9
    repeated = np.all(sequences.features["tokens"] == sequences.features["tokens"][:, :1], axis=1)
    assert scores[repeated].max() < np.median(scores)


@pytest.mark.parametrize("value", [3, -1, 0.5])
def test_values_that_are_not_tokens_are_named(value):
    rows = markov(50)
    rows.features["tokens"][7, 2] = value
    with pytest.raises(DataError, match=rf"has the value {value:g}; tokens are whole numbers from 0 to 2"):
        create_head("discrete-cd", **OPTIONS, epochs=1).fit(rows)
    head = create_head("discrete-cd", **OPTIONS, epochs=1).fit(markov(50))
    with pytest.raises(DataError, match="set tokens if there are more"):
        head.score(rows)


def test_chains_keep_their_states_and_restart():
    generator = torch.Generator().manual_seed(0)
    chains = TokenChains(LENGTH, TOKENS, 20, generator=generator, restart=0.0)
    first = chains.tokens.clone()

    def likes_ones(one_hot):
        return -20 * one_hot[:, :, 1].sum(1)

    for _ in range(30):
        moved = chains.sample(likes_ones, 10, steps=5, generator=generator)
    assert (moved == 1).all() and not (first == 1).all()
    assert (chains.tokens == 1).float().mean() > 0.9
    chains.restart = 1.0
    fresh = chains.sample(likes_ones, 2000, steps=0, generator=generator)
    share = fresh.float().mean()
    assert abs(float(share) - 1) < 0.05 and len(fresh.unique()) == TOKENS


def with_motif(rows, seed, motif):
    """Draw uniform sequences of 24 tokens that contain a motif of 9 at a random place."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, size=(rows, 24))
    place = rng.integers(16, size=rows)
    np.put_along_axis(tokens, place[:, None] + np.arange(9), np.array(motif), 1)
    return FeatureSet({"tokens": tokens.astype(np.float32)})


def test_convolutions_learn_motifs_at_any_place():
    options = {"network": "conv", "filters": 16, "kernel": 3, "width": 16, "depth": 1, "activation": "relu"}
    training = {"epochs": 6, "batch_size": 50, "lr": 5e-3, "steps": 5, "buffer_size": 300, "seed": 1}
    motif = [2, 2, 2, 1, 1, 1, 3, 3, 3]
    head = create_head("discrete-cd", **options, **training).fit(with_motif(800, 0, motif))
    inside, outside = head.score(with_motif(300, 1, motif)), head.score(with_motif(300, 2, motif[::-1]))
    truth = np.r_[np.zeros(300), np.ones(300)]
    assert roc_auc_score(truth, np.r_[inside, outside]) > 0.85


def test_the_published_network_has_the_parameters_of_the_authors():
    head = create_head("discrete-cd", preset="published")
    model = head.build(250, 1, torch.Generator())
    # 4 -> 32 -> 64 -> 128 filters of 20 positions, then 1000 units and one output
    convolutions = 32 * (4 * 20 + 1) + 64 * (32 * 20 + 1) + 128 * (64 * 20 + 1)
    linear = 1000 * (128 + 1) + 1000 + 1
    assert sum(value.numel() for value in model.parameters()) == convolutions + linear
    assert model.chains.tokens.shape == (9999, 250)


def test_scores_of_convolutions_do_not_depend_on_the_number_of_rows(monkeypatch):
    options = {"network": "conv", "filters": 4, "kernel": 3, "epochs": 1, "steps": 1, "buffer_size": 10}
    rows = with_motif(30, 0, [0] * 9)
    head = create_head("discrete-cd", **options).fit(rows)
    whole = head.score(rows)
    monkeypatch.setattr("featood.heads.energies.discrete_cd.PART", 7)
    np.testing.assert_allclose(head.score(rows), whole, rtol=1e-12)


def test_options_that_do_not_fit_the_convolutions():
    short = {"network": "conv", "kernel": 20}
    with pytest.raises(
        UsageError, match=r"24 tokens are too short for kernel=20, which needs 58.* at most 8"
    ):
        create_head("discrete-cd", **short).fit(with_motif(30, 0, [0] * 9))
    fitting = {"network": "conv", "kernel": 8, "filters": 4, "epochs": 1, "steps": 1, "buffer_size": 10}
    create_head("discrete-cd", **fitting).fit(with_motif(30, 0, [0] * 9))
    with pytest.raises(UsageError, match="lipschitz applies to network=mlp only"):
        create_head("discrete-cd", network="conv", lipschitz=1.0)
