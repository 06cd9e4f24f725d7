"""Energies of token sequences."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from featood.cache.feature_set import FeatureSet
from featood.energies import TokenChains
from featood.errors import DataError
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
