from itertools import pairwise

import numpy as np
import pytest


@pytest.mark.parametrize("name", ["chains", "motifs"])
def test_bases_of_all_classes_are_equally_frequent(script, name):
    sequences, labels = script("sequences").DATA[name](3, 2000, 0)
    assert sequences.shape == (6000, 250) and np.bincount(labels).tolist() == [2000] * 3
    for label in range(3):
        shares = np.bincount(sequences[labels == label].ravel(), minlength=4) / 500_000
        np.testing.assert_allclose(shares, 0.25, atol=0.005)
    assert not np.array_equal(sequences, script("sequences").DATA[name](3, 2000, 1)[0])


def test_words_and_the_likelihood_against_loops(script):
    module = script("sequences")
    rng = np.random.default_rng(0)
    train, test = rng.integers(4, size=(20, 30)), rng.integers(4, size=(5, 30))
    found = module.counts(train, 2)
    for row, sequence in zip(found, train, strict=True):
        pairs = [4 * first + second for first, second in pairwise(sequence)]
        np.testing.assert_array_equal(row, np.bincount(pairs, minlength=16))
    table = np.ones((4, 4, 4, 4))
    for sequence in train:
        for place in range(3, 30):
            table[tuple(sequence[place - 3 : place + 1])] += 1
    table = np.log(table / table.sum(3, keepdims=True))
    right = [-sum(table[tuple(row[place - 3 : place + 1])] for place in range(3, 30)) for row in test]
    np.testing.assert_allclose(module.markov_chain(train, np.zeros(20))(test), right)
