import numpy as np
import pytest
import torch

from featood.extractors.weights import load_weights
from featood.metrics.sanity import doubts
from featood.nets import create_net

STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROWS = 700


def one(logits, labels, classes=()):
    found = doubts(logits, labels, classes)
    assert len(found) == 1 and "\n" not in found[0], found
    return found[0]


def classifier(outputs=10, rows=1000, sharpness=6.0, seed=0):
    """Return the logits of a calibrated classifier, and labels drawn from its softmax."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(rows, outputs))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return logits, (p.cumsum(1) > rng.random((rows, 1))).argmax(1)


def text_order(outputs):
    """Return the rank of each number among the numbers sorted as text."""
    return np.argsort(np.array(sorted(range(outputs), key=str)))


# ---- simulated classifiers --------------------------------------------------------------------------------


def test_calibrated_classifiers_give_no_warning():
    rng = np.random.default_rng(0)
    for seed in range(300):
        outputs, rows = int(rng.choice([2, 3, 10, 100])), int(rng.choice([50, 200, 1000]))
        logits, labels = classifier(outputs, rows, rng.uniform(2, 8), seed)
        assert doubts(logits, labels) == []
        assert doubts(1.5 * logits, labels) == []  # somewhat overconfident, as networks are


def test_a_permutation_is_found_by_cross_validation():
    logits, labels = classifier()
    right = float((logits.argmax(1) == labels).mean())
    order = np.random.default_rng(1).permutation(10)
    text = one(logits, order[labels], [f"kind{number}" for number in range(10)])
    assert "another class order" in text and f"would be {right:.3f}" in text and "give --class-order" in text
    label = int(np.flatnonzero(np.argsort(order) != np.arange(10))[0])
    assert f"label {label} (kind{label}) looks like output {np.argsort(order)[label]}" in text


@pytest.mark.parametrize(
    ("outputs", "change", "words"),
    [
        (100, lambda y: text_order(100)[y], "the text order of 0 to 99 (0, 1, 10, ...); corrected"),
        (
            100,
            lambda y: np.argsort(text_order(100))[y],
            "the numeric order, but the outputs follow the text order",
        ),
        (100, lambda y: (y + 1) % 100, "a count from 1, one more than the outputs"),
        (
            10,
            lambda y: y + 1,
            "labels reach 10, but the network has 10 outputs, 0 to 9: they seem to count from 1",
        ),
        (10, lambda y: 9 - y, "the reversed order"),
        (10, lambda y: y * 1000, "labels reach 9000, but the network has 10 outputs, 0 to 9: check"),
    ],
)
def test_common_mistakes_in_the_order_are_described(outputs, change, words):
    logits, labels = classifier(outputs)
    assert words in one(logits, change(labels))


def test_a_background_output():
    logits, labels = classifier()
    assert "one less than the outputs" in one(np.concatenate([logits[:, :1] - 99, logits], 1), labels)


def test_classes_that_are_not_in_alphabetical_order():
    logits, labels = classifier(4)
    names = ["dog", "ant", "cat", "bee"]
    sorted_names = sorted(names)
    order = np.array([names.index(name) for name in sorted_names])  # outputs are alphabetical, labels are not
    assert "the outputs follow their alphabetical order" in one(logits, order[labels], names)


def test_a_renumbered_subset_of_the_classes():
    logits, labels = classifier(50, 4000)
    chosen = np.isin(labels, [3, 17, 20, 44])
    text = one(logits[chosen], np.unique(labels[chosen], return_inverse=True)[1])
    assert "renumber 4 of the 50 classes" in text and "label 1 looks like output 17" in text


def test_shuffled_labels_are_not_taken_for_another_order():
    for rows in (60, 200, 1000):
        logits, labels = classifier(rows=rows, sharpness=8)
        text = one(logits, np.random.default_rng(2).permutation(labels))
        assert "the labels look shuffled" in text and "follow" not in text
    logits, labels = classifier(100, 150, 8)  # 1.5 rows per class are too few to find the order
    text = one(logits, np.random.default_rng(3).permutation(100)[labels])
    assert "another class order, which cannot be found" in text


def test_untrained_networks():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 100, 1000)
    assert "network seems untrained" in one(0.3 * rng.normal(size=(1000, 100)), labels)
    assert "network seems untrained" in one(2 * rng.normal(size=(1000, 100)), labels)
    constant = np.tile(np.eye(100)[7] * 9, (1000, 1))
    assert "class 7 is predicted for every row" in one(constant, labels)


def test_sets_of_a_single_class_give_no_warning():
    logits, labels = classifier()
    assert doubts(logits[labels == 3], labels[labels == 3]) == []
    mostly = np.tile([3.0, 0.0], (1000, 1))  # confidence equals the share of the larger class
    assert doubts(mostly, (np.arange(1000) % 20 == 0).astype(int)) == []


def test_few_rows_and_invalid_arrays_are_ignored():
    logits, labels = classifier()
    wrong = 9 - labels
    assert doubts(logits[:49], wrong[:49]) == [] and len(doubts(logits[:200], wrong[:200])) == 1
    hidden = np.where(np.arange(1000) < 960, -1, wrong)
    assert doubts(logits, hidden) == []
    with_nan = logits.copy()
    with_nan[::2] = np.nan
    assert one(with_nan, wrong) == one(logits[1::2], wrong[1::2])
    for strange in (
        (None, None), ("a", "b"), (logits, labels[:3]), (logits[0], labels), (logits[:, :1], labels * 0),
        (logits, labels.astype(float)), (logits * np.nan, labels), (logits[:0], labels[:0]), (logits, labels * 0 - 1),
        (torch.zeros(99, 4, requires_grad=True), torch.zeros(99, dtype=torch.long)), (logits.astype(str), labels),
    ):  # fmt: skip
        assert doubts(*strange) == []


def test_blocks_do_not_change_the_result(monkeypatch):
    logits, labels = classifier()
    whole = doubts(logits, 9 - labels)
    monkeypatch.setattr("featood.metrics.sanity.BLOCK", 70)
    assert doubts(torch.from_numpy(logits), 9 - labels) == whole


# ---- a published network ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(test_data):
    """The logits of ResNet-20 for pixels [N, 32, 32, 3] from 0 to 1, with the given normalisation."""
    net = create_net("cifar-resnet20", 10)
    load_weights(net, test_data / "weights" / "resnet20-12fca82f.th")
    with np.load(test_data / "cifar10" / "test.npz") as data:
        images, labels = data["images"][:ROWS], data["labels"][:ROWS]

    def run(change=lambda pixels: pixels, rows=ROWS, mean=STATISTICS[0], std=STATISTICS[1]):
        pixels = change(images[:rows].astype("f4") / 255)
        inputs = (np.ascontiguousarray(pixels) - np.array(mean, "f4")) / np.array(std, "f4")
        with torch.no_grad():
            return net.eval()(torch.from_numpy(inputs).permute(0, 3, 1, 2)).numpy()

    return run, labels


@pytest.fixture(scope="module")
def published(network):
    run, labels = network
    return run(), labels


def test_the_published_network_gives_no_warning(published):
    logits, labels = published
    assert (logits.argmax(1) == labels).mean() > 0.9
    assert doubts(logits, labels) == []


def test_wrong_labels_of_the_published_network(published):
    logits, labels = published
    rng = np.random.default_rng(5)
    right = float((logits.argmax(1) == labels).mean())
    assert f"accuracy would be {right:.3f}" in one(logits, np.array([3, 0, 9, 1, 2, 8, 5, 7, 4, 6])[labels])
    swapped = np.where(labels == 3, 5, np.where(labels == 5, 3, labels))  # cats and dogs
    assert "label 3 looks like output 5, label 5 looks like output 3" in one(logits, swapped)
    assert "the labels look shuffled" in one(logits, rng.permutation(labels))
    assert "count from 1" in one(logits, labels + 1) and "reversed" in one(logits, 9 - labels)
    subset = np.isin(labels, [2, 5, 9])
    assert "renumber 3 of the 10 classes" in one(
        logits[subset], np.unique(labels[subset], return_inverse=True)[1]
    )


@pytest.mark.parametrize(
    "how",
    [
        {"mean": (0, 0, 0), "std": (1, 1, 1)},
        {"change": lambda pixels: 255 * pixels},
        {"change": lambda pixels: pixels[:, ::-1]},
        {"change": lambda pixels: (pixels - 0.45) / 0.225},
    ],
    ids=["no normalisation", "0 to 255", "upside down", "normalised twice"],
)
def test_inputs_preprocessed_differently(network, how):
    run, labels = network
    rows = 300
    text = one(run(rows=rows, **how), labels[:rows])
    assert "preprocessed" in text and "differently from training" in text


@pytest.mark.parametrize(
    "how",
    [
        {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)},
        {"mean": (0.5,) * 3, "std": (0.5,) * 3},
        {"change": lambda pixels: pixels[..., ::-1]},
    ],
    ids=["other statistics", "halves", "blue first"],
)
def test_changes_that_cost_little_accuracy_are_not_detected(network, how):
    run, labels = network
    assert doubts(run(rows=300, **how), labels[:300]) == []


def test_random_weights(test_data):
    with np.load(test_data / "cifar10" / "test.npz") as data:
        inputs = torch.from_numpy(data["images"][:200].astype("f4") / 255).permute(0, 3, 1, 2)
        labels = data["labels"][:200]
    for seed in range(3):
        net = create_net("cifar-resnet20", 10, generator=torch.Generator().manual_seed(seed)).eval()
        with torch.no_grad():
            text = one(net((inputs - 0.5) / 0.25).numpy(), labels)
        assert "untrained" in text or "not trained" in text
