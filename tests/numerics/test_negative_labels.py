import numpy as np
import pytest
import torch

from featood.numerics.negative_labels import mine_negatives


def chosen(words, classes, share, quantile, most):
    """One word and one class at a time."""
    similarities = []
    for word in words:
        cosines = [float(word @ name) / np.linalg.norm(word) / np.linalg.norm(name) for name in classes]
        similarities.append(1.0 if max(cosines) > most else np.quantile(cosines, quantile))
    return sorted(range(len(words)), key=similarities.__getitem__)[: max(int(share * len(words)), 1)]


@pytest.mark.parametrize(("share", "quantile", "most"), [(0.15, 0.95, 1.0), (0.5, 0.5, 0.3), (1.0, 1.0, 0.2)])
def test_each_word_by_its_quantile_of_cosines(share, quantile, most):
    rng = np.random.default_rng(0)
    words, classes = 3 * rng.normal(size=(1100, 12)), rng.normal(size=(20, 12))
    found = mine_negatives(torch.from_numpy(words), torch.from_numpy(classes), share, quantile, most)
    assert found.tolist() == chosen(words, classes, share, quantile, most)


def test_at_least_one_word_and_equal_ones_in_their_order():
    words = torch.tensor([[1.0, 0], [0, 1], [0, 2], [0, -1]])
    assert mine_negatives(words, torch.tensor([[1.0, 0]]), 0.0, 1.0).tolist() == [1]
    assert mine_negatives(words, torch.tensor([[1.0, 0]]), 1.0, 1.0).tolist() == [1, 2, 3, 0]
