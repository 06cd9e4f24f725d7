"""Heads on image and text embeddings, against the formulas of the papers, one row at a time."""

import numpy as np
import pytest

from featood.cache.feature_set import Classifier, FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head

WIDTH, CLASSES, WORDS = 16, 4, 60
RNG = np.random.default_rng(0)
NAMES = RNG.normal(size=(CLASSES, WIDTH)).astype("f4")
# a word close to a class, and others elsewhere
DICTIONARY = np.concatenate([NAMES[:1] + 0.05, RNG.normal(size=(WORDS - 1, WIDTH))]).astype("f4")


def unit(rows):
    rows = np.asarray(rows, float)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def images_of(embeddings, count, seed):
    rng = np.random.default_rng(seed)
    centers = unit(embeddings)[np.arange(count) % len(embeddings)]
    return (5 * (centers + rng.normal(0, 0.05, centers.shape))).astype("f4")


def make(rows, labels=None, **columns):
    classifier = Classifier(100 * NAMES, np.zeros(CLASSES, "f4"))
    return FeatureSet({"image": rows, **columns}, labels=labels, classifier=classifier, main="image")


def train(words=DICTIONARY):
    rows = images_of(NAMES, 20, 1)
    labels = np.concatenate([np.arange(20) % CLASSES, np.full(len(words), -1)])
    return make(np.concatenate([rows, words]), labels)


KNOWN = make(images_of(NAMES, 40, 2))


def negatives_of(head, share, groups):
    """Chosen words by the definition, as the set of groups is random."""
    cosines = unit(DICTIONARY) @ unit(NAMES).T
    similarity = np.where(cosines.max(1) > head.most, 1, np.quantile(cosines, head.quantile, axis=1))
    kept = np.argsort(similarity, kind="stable")[: int(share * WORDS)]
    return DICTIONARY[kept[: len(kept) // groups * groups]]


@pytest.mark.parametrize("name", ["neglabel", "csp"])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_negative_labels_by_groups(name, temperature):
    head = create_head(name, share=0.5, groups=7, temperature=temperature)
    with pytest.warns(UserWarning, match="the last 2 of 30 negative labels are left out"):
        head.fit(train())
    groups = head.state["negatives"].numpy()
    assert groups.shape == (7, 4, WIDTH)
    expected = negatives_of(head, 0.5, 7)
    np.testing.assert_array_equal(np.unique(groups.reshape(-1, WIDTH), axis=0), np.unique(expected, axis=0))
    odd = make(images_of(groups[0], 30, 3))
    for data in (KNOWN, odd):
        scores = []
        for row in unit(data.features["image"]):
            positive = np.exp(unit(NAMES) @ row / temperature)
            shares = [
                positive.sum() / (positive.sum() + np.exp(unit(group) @ row / temperature).sum())
                for group in groups
            ]
            scores.append(1 - np.mean(shares))
        np.testing.assert_allclose(head.score(data), scores, rtol=1e-6, atol=1e-12)
    assert head.score(odd).min() > head.score(KNOWN).max()


def test_a_word_that_names_a_class_becomes_no_negative_label_of_csp():
    few = np.concatenate([DICTIONARY[:1], -NAMES])  # the first nearly is a class, but is far from most others
    labels = {}
    for name in ("neglabel", "csp"):
        with pytest.warns(UserWarning, match="each of the 4 negative labels is a group"):
            head = create_head(name, share=0.8, quantile=0.5).fit(train(few))
        rows = head.state["negatives"].numpy().reshape(-1, WIDTH)
        labels[name] = any(np.array_equal(row, DICTIONARY[0]) for row in rows)
    assert labels == {"neglabel": True, "csp": False}


def test_the_share_of_each_pool_is_chosen():
    data = train()
    data.labels[-10:] = -2  # a second pool
    with pytest.warns(UserWarning, match="each of the 30 negative labels is a group"):
        head = create_head("neglabel", share=0.5).fit(data)
    similarity = np.quantile(unit(DICTIONARY) @ unit(NAMES).T, 0.95, axis=1)
    pools = np.split(np.arange(WORDS), [WORDS - 10])
    expected = [pool[np.argsort(similarity[pool])[: len(pool) // 2]] for pool in pools]
    found = head.state["negatives"].numpy().reshape(-1, WIDTH)
    rows = {tuple(row) for row in DICTIONARY[np.concatenate(expected)]}
    assert {tuple(row) for row in found} == rows and len(rows) == 30


def test_words_are_needed():
    known = make(images_of(NAMES, 20, 1), np.arange(20) % CLASSES)
    with pytest.raises(DataError, match=r"20 images and 0 words; .* --outliers FILE"):
        create_head("neglabel").fit(known)
    with pytest.raises(DataError, match="0 images and 60 words"):
        create_head("csp").fit(make(DICTIONARY, np.full(WORDS, -1)))


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_global_and_local_matching(weight):
    positions = RNG.normal(size=(40, 9, WIDTH)).astype("f4")
    data = make(KNOWN.features["image"], grid=np.swapaxes(positions, 1, 2).reshape(40, -1))
    head = create_head("gl-mcm", local="grid", weight=weight, temperature=0.2)
    expected = []
    for row, places in zip(data.features["image"], positions, strict=True):
        best = []
        for vector in (row, *places):
            exponentials = np.exp(unit(NAMES) @ unit(vector) / 0.2)
            best.append(exponentials.max() / exponentials.sum())
        expected.append(-best[0] - weight * max(best[1:]))
    np.testing.assert_allclose(head.score(data), expected, rtol=1e-6)
    if not weight:
        mcm = create_head("mcm", temperature=0.2).score(data)
        np.testing.assert_allclose(head.score(data), mcm, rtol=1e-12)
    odd = make(data.features["image"], grid=data.features["grid"][:, :-1])
    with pytest.raises(UsageError, match="143 numbers per row, which are not embeddings of 16"):
        head.score(odd)


def refined(head, row, joined):
    """The score of the authors' code for one image, as a probability of being out-of-distribution."""
    groups, t = head.state["negatives"].numpy().astype(float), head.temperature
    words, image = unit(groups.reshape(-1, WIDTH)), unit(row)
    positive = np.exp(unit(NAMES) @ image / t).sum()
    shares = [positive / (positive + np.exp(unit(group) @ image / t).sum()) for group in groups]
    near = np.argsort(-(unit(NAMES) @ image))[: head.nearest], np.argsort(-(words @ image))[: head.nearest]
    best = 0
    for c in near[0]:
        for n in near[1]:
            pair, word = np.exp(unit(joined(c, n)) @ image / t), np.exp(words[n] @ image / t)
            best = max(best, pair / (pair + word))
    return (1 - np.mean(shares)) + head.weight * (1 - best)


@pytest.mark.parametrize("nearest", [1, 3, 50])
def test_joined_texts_of_the_mean_embedding(nearest):
    head = create_head("negrefine", pairs="mean", share=0.5, groups=6, temperature=0.2, nearest=nearest)
    head.fit(train())
    words = unit(head.state["negatives"].numpy().reshape(-1, WIDTH))
    for data in (KNOWN, make(images_of(words, 30, 3))):
        expected = [
            refined(head, row, lambda c, n: unit(NAMES)[c] + words[n]) for row in data.features["image"]
        ]
        np.testing.assert_allclose(head.score(data), expected, rtol=1e-6)
    # the words are chosen by the largest cosine, not by a quantile
    chosen = np.argsort((unit(DICTIONARY) @ unit(NAMES).T).max(1))[: WORDS // 2]
    rows = {tuple(row) for row in DICTIONARY[chosen]}
    assert {tuple(row) for row in head.state["negatives"].numpy().reshape(-1, WIDTH)} == rows


def test_joined_texts_of_files():
    texts = RNG.normal(size=(CLASSES, WORDS, WIDTH)).astype("f4")
    data = train(np.concatenate([DICTIONARY, texts.reshape(-1, WIDTH)]))
    # two files of words, and those of their joined texts
    split = 20
    sizes = [split, WORDS - split, CLASSES * split, CLASSES * (WORDS - split)]
    parts = [texts[:, :split].reshape(-1, WIDTH), texts[:, split:].reshape(-1, WIDTH)]
    data.features["image"][20 + WORDS :] = np.concatenate(parts)
    data.labels[20:] = np.repeat([-1, -2, -3, -4], sizes)
    with pytest.warns(UserWarning, match="the last 2 of 30"):
        head = create_head("negrefine", share=0.5, groups=4, temperature=0.3, nearest=2).fit(data)
    rows = head.state["negatives"].numpy().reshape(-1, WIDTH)
    number = {tuple(word): place for place, word in enumerate(DICTIONARY)}
    expected = [
        refined(head, row, lambda c, n: texts[c, number[tuple(rows[n])]]) for row in KNOWN.features["image"]
    ]
    np.testing.assert_allclose(head.score(KNOWN), expected, rtol=1e-6)
    assert head.state["joined"].shape == (CLASSES, 28, WIDTH)
    for labels in (np.full(len(data.labels) - 20, -1), np.repeat([-1, -2, -3, -4], sizes[::-1])):
        data.labels[20:] = labels
        with pytest.raises(DataError, match=r"files of 4 times as many joined texts .* --pairs mean"):
            create_head("negrefine").fit(data)


def test_an_image_of_both_is_less_odd_than_by_neglabel():
    """An image that shows a class beside something else is told from one that shows only the latter."""
    words = DICTIONARY[1:]
    both, alone = unit(NAMES)[np.arange(30) % CLASSES] + 1.2 * unit(words[:30]), unit(words[:30])
    heads = [
        create_head(name, share=1.0, quantile=1.0, most=1.0, groups=1, **more).fit(train(words))
        for name, more in (("neglabel", {}), ("negrefine", {"pairs": "mean", "nearest": 1}))
    ]
    gaps = [head.score(make(alone.astype("f4"))) - head.score(make(both.astype("f4"))) for head in heads]
    assert (gaps[1] > gaps[0] + 0.5).mean() > 0.9
