"""Data sets with the names of pytorch-ood: texts by name, noise, PixMix, and open-set splits."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import featood.detectors as d
from featood.data import open_dataset
from featood.errors import DataError, UsageError

FILES = {
    "newsgroups20/20ng-train-no-short.txt": "sci.space orbit of the moon\nrec.autos a new car\n",
    "newsgroups20/20ng-test-no-short.txt": "rec.autos an old car\n",
    "reuters8/r8-train-stemmed.txt": "earn net profit\nship a port\n",
    "reuters8/r8-test-stemmed.txt": "1 a bank\n8 a tariff\n3 a share\n",
    "reuters52/r52-train-stemmed.txt": "zinc price of metal\n",
    "reuters52/r52-test-stemmed.txt": "money-fx dollar and yen\n",
    "multi30k/m30k-train.txt": "a man runs\n",
    "multi30k/m30k-test.txt": "a dog sleeps\na cat\n",
    "wmt16/wmt16_sentences": "the parliament met\n",
    "wikitext-2/wiki.train.tokens": " = Title = \n\n a town in Norway\n",
    "wikitext-103/wiki.valid.tokens": " a river\n",
}


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_texts_are_pairs_of_text_and_class(root, capsys):
    train = d.NewsGroup20(root, train=True, download=True)
    assert [train[row] for row in range(len(train))] == [("orbit of the moon", 14), ("a new car", 7)]
    joined = d.NewsGroup20(root, train=False) + d.Multi30k(
        root=root, train=False, target_transform=d.ToUnknown()
    )
    assert [joined[row] for row in range(3)] == [("an old car", 7), ("a dog sleeps", -1), ("a cat", -1)]
    assert [d.Reuters8(root)[row][1] for row in range(2)] == [2, 6]
    assert [y for _, y in DataLoader(d.Reuters8(root, train=False), batch_size=None)] == [0, 7, 2]
    assert d.Reuters52(root)[0] == ("price of metal", 51)
    assert d.Reuters52(root, train=False, transform=str.upper)[0] == ("DOLLAR AND YEN", 32)
    assert d.WMT16Sentences(root=root, transform=len, download=True)[0] == (18, -1)
    assert [text for text, _ in d.WikiText2(root, split="train")] == ["= Title =", "a town in Norway"]
    assert "newsgroups20/train: labels are class names, numbered in sorted order" in capsys.readouterr().err
    assert len(d.WikiText103(root, "val")) == 1
    with pytest.raises(DataError, match="no split 'test'"):
        d.WikiText2(root, split="test")


@pytest.mark.parametrize(("cls", "kind"), [(d.GaussianNoise, "gaussian"), (d.UniformNoise, "uniform")])
def test_noise_is_that_of_the_sets_of_featood(cls, kind):
    images = cls(length=5, size=(8, 8, 3), seed=3)
    expected = open_dataset(f"noise:{kind},n=5,size=8,seed=3")
    assert len(images) == 5
    for row, (image, label) in enumerate(DataLoader(images, batch_size=None)):
        assert isinstance(image, Image.Image) and label == -1
        assert np.array_equal(np.asarray(image), expected.read(row))
    grey = cls(2, (9, 9, 1), transform=np.asarray, target_transform=d.is_unknown)
    assert grey[0][0].shape == (9, 9) and grey[0][1] is True
    with pytest.raises(UsageError, match="square"):
        cls(2, (9, 8, 3))


def test_images_are_mixed_and_normalised():
    plain, others = d.UniformNoise(6, (8, 8, 3)), d.GaussianNoise(3, (20, 20, 3))
    mixed = d.PixMixDataset(plain, others, std=[0.5, 0.5, 0.5], mean=[0.25, 0.5, 0.75])
    torch.manual_seed(0)
    found = [mixed[row] for row in range(6)]
    assert [label for _, label in found] == [-1] * 6 and found[0][0].shape == (3, 8, 8)
    for channel, mean in enumerate((0.25, 0.5, 0.75)):
        values = torch.stack([x[channel] for x, _ in found]) * 0.5 + mean
        assert values.min() >= -1e-6 and values.max() <= 1 + 1e-6
    torch.manual_seed(0)
    assert all(torch.equal(x, mixed[row][0]) for row, (x, _) in enumerate(found))
    assert not torch.equal(mixed[0][0], mixed[0][0])  # each epoch has other mixtures
    grey = d.PixMixDataset(d.UniformNoise(1, (8, 8, 1)), d.UniformNoise(1, (8, 8, 1)))
    assert grey[0][0].shape == (1, 8, 8)


Y = torch.randint(11, (203,), generator=torch.Generator().manual_seed(0))
ROWS = TensorDataset(torch.arange(203.0)[:, None], Y)


def test_open_set_splits_are_those_of_pytorch_ood(detectors):
    from pytorch_ood.dataset.ossim import DynamicOSS

    class Labelled(TensorDataset):
        targets = Y.numpy()

    for seed in range(5):
        theirs, ours = (
            cls(Labelled(*ROWS.tensors), kuc=1, uuc_val=2, uuc_test=3, seed=seed)
            for cls in (DynamicOSS, d.DynamicOSS)
        )
        assert (theirs.kkc, theirs.kuc, theirs.uuc) == (ours.kkc, ours.kuc, ours.uuc)
        for name in ("train_dataset", "val_dataset", "test_dataset"):
            assert sorted(getattr(theirs, name)().indices) == sorted(getattr(ours, name)().indices)


def test_the_program_for_newsgroups_runs(root):
    """The steps of the example of pytorch-ood: vocabulary, padding, a GRU, outliers of other sets, metrics."""
    train = d.NewsGroup20(root, train=True, download=True)
    words = sorted({word for text, _ in train for word in text.lower().split()})
    vocabulary = {word: number for number, word in enumerate(words, start=2)}

    def prep(text):
        return torch.tensor([vocabulary.get(word, 0) for word in text.lower().split()], dtype=torch.int64)

    def collate(batch):
        longest = max(len(text) for text, _ in batch)
        rows = [torch.cat([torch.ones(longest - len(text), dtype=torch.long), text]) for text, _ in batch]
        return torch.stack(rows), torch.tensor([label for _, label in batch])

    train = DataLoader(d.NewsGroup20(root, train=True, transform=prep), batch_size=20, collate_fn=collate)
    inside = d.NewsGroup20(root, train=False, transform=prep, download=True)
    d.fix_random_seed(123)
    model = d.GRUClassifier(num_classes=20, n_vocab=len(vocabulary) + 2).eval()
    detectors = {
        "Entropy": d.Entropy(model),
        "ViM": d.ViM(model.features, d=1, w=model.fc.weight, b=model.fc.bias),
        "KLMatching": d.KLMatching(model),
        "MaxSoftmax": d.MaxSoftmax(model),
        "EnergyBased": d.EnergyBased(model),
        "MaxLogit": d.MaxLogit(model),
    }
    for detector in detectors.values():
        assert detector.to("cpu").fit(train) is detector
    for make in (d.Reuters52, d.Multi30k, d.WMT16Sentences):
        outside = make(root=root, transform=prep, target_transform=d.ToUnknown(), download=True)
        for detector in detectors.values():
            metrics = d.OODMetrics()
            for x, y in DataLoader(inside + outside, batch_size=16, collate_fn=collate):
                metrics.update(detector(x.to("cpu")), y.to("cpu"))
            assert 0 <= metrics.compute()["AUROC"] <= 1
