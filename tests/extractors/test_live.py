import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import featood
from featood.cache import FeatureCache, open_cache
from featood.data import open_dataset
from featood.errors import DataError, Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions
from featood.extractors.extract import extract as extract_images
from featood.extractors.transform import Transform
from featood.nets import seeded

TRANSFORM = Transform(3, 16, 16, 0, (0.5,), (0.25,))


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6, classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


def net(classes=3):
    with seeded(torch.Generator().manual_seed(0)):
        return Net(classes)


IMAGES = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(50) % 3


def test_a_module_and_a_loader_give_the_features_of_the_command_line(tmp_path, toy_images):
    images = open_dataset("toy", "test")
    backbone = resolve_backbone("cifar-resnet20", "random", 3)
    options = ExtractOptions(batch_size=20, taps=("layer1",))
    wanted = extract_images(backbone, images, TRANSFORM, FeatureCache(tmp_path / "c"), options).features

    network = resolve_backbone("cifar-resnet20", "random", 3).module
    pixels = torch.from_numpy(images.array).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25)
    loader = DataLoader(TensorDataset(pixels, torch.from_numpy(images.labels)), batch_size=20)
    features = featood.extract(network, loader, taps=("layer1",), quiet=True)

    assert list(features.features) == list(wanted.features) and features.main == wanted.main
    for name, values in features.features.items():
        assert values.tobytes() == wanted.features[name][:].tobytes(), name
    assert features.logits.tobytes() == wanted.logits[:].tobytes()
    assert np.array_equal(features.labels, wanted.labels[:])
    for ours, theirs in zip(features.classifier, wanted.classifier, strict=True):
        assert np.array_equal(ours, theirs)


class Dictionaries(Dataset):
    """Batches as returned by Hugging Face's processors."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, row):
        return {"pixel_values": IMAGES[row], "labels": int(LABELS[row]), "path": f"{row}.png"}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, LABELS, strict=True))


def batches():
    for rows in torch.arange(50).split(16):
        yield IMAGES[rows], LABELS[rows]


LOADERS = {
    "loader of pairs": lambda: DataLoader(TensorDataset(IMAGES, LABELS), 16),
    "data set of pairs": lambda: TensorDataset(IMAGES, LABELS),
    "data set of dictionaries": Dictionaries,
    "loader of dictionaries": lambda: DataLoader(Dictionaries(), 16),
    "stream": lambda: DataLoader(Stream(), 16),
    "generator": batches,
    "list of batches": lambda: list(batches()),
    "triples with names": lambda: [(x, y, [f"{i}" for i in range(len(x))]) for x, y in batches()],
    "labels [B, 1]": lambda: [(x, y[:, None]) for x, y in batches()],
    "arrays": lambda: [(x.numpy(), y.numpy()) for x, y in batches()],
}


@pytest.mark.parametrize("form", LOADERS)
def test_usual_forms_of_batches(form):
    features = featood.extract(net(), LOADERS[form](), batch_size=16, quiet=True)
    with torch.inference_mode():
        assert np.allclose(features.logits, net()(IMAGES), atol=1e-5)
    assert np.array_equal(features.labels, LABELS)
    if "dictionaries" in form:
        assert features.ids[3] == "3.png"


@pytest.mark.parametrize("images", [IMAGES, IMAGES.numpy(), [IMAGES[:30], IMAGES[30:]], IMAGES[:1]])
def test_batches_without_labels(images):
    features = featood.extract(net(), images, quiet=True)
    assert features.labels is None and len(features) == (1 if images is not None and len(images) == 1 else 50)


def test_text_labels_become_classes_with_names():
    words = np.array(["cat", "ant", "dog"])
    loader = [(x, words[y.numpy()].tolist()) for x, y in batches()]
    features = featood.extract(net(), loader, quiet=True)
    assert features.classes == ("ant", "cat", "dog")
    assert [features.classes[label] for label in features.labels] == words[LABELS.numpy()].tolist()
    features = featood.extract(net(), loader, classes=words.tolist(), quiet=True)
    assert np.array_equal(features.labels, LABELS)
    with pytest.raises(DataError, match="no class is named 'ant'"):
        featood.extract(net(), loader, classes=["cat", "dog"], quiet=True)


@pytest.mark.parametrize(
    ("loader", "text"),
    [
        ([], "loader is empty"),
        ([{"audio": IMAGES}], "keys audio"),
        ([("a", "b")], "not str"),
        ([(IMAGES[:4], torch.rand(4, 5))], "one class for each"),
        ([(IMAGES[:4], torch.rand(4))], "regression targets are not classes"),
        ([(IMAGES[:4], LABELS[:4]), (IMAGES[4:8],)], "only some batches"),
        (3, "which int is not"),
    ],
)
def test_other_batches_are_refused_in_one_line(loader, text):
    with pytest.raises(DataError, match=text):
        featood.extract(net(), loader, quiet=True)


def test_images_without_a_transform_are_refused_in_one_line():
    class Pictures(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, row):
            return object(), 1

    with pytest.raises(DataError, match="give it a transform"):
        featood.extract(net(), Pictures(), quiet=True)


def test_the_module_is_restored():
    module = net().train()
    module.conv.eval()
    before = {name: (value.clone(), value.stride()) for name, value in module.state_dict().items()}
    featood.extract(module, IMAGES, quiet=True)
    assert module.training and module.fc.training and not module.conv.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name][0]) and value.stride() == before[name][1]
        assert not any(part._forward_hooks for part in module.modules())


def test_a_head_accepts_the_same_network_and_refuses_another(tmp_path):
    train = featood.extract(net(), DataLoader(TensorDataset(IMAGES, LABELS), 16), quiet=True)
    head = featood.create_head("mahalanobis").fit(train)
    assert head.score(featood.extract(net(), IMAGES, quiet=True)).shape == (50,)
    other = net()
    with torch.no_grad():
        other.conv.weight[0, 0, 0, 0] += 1
    with pytest.raises(Mismatch, match="differing: weights_sha256"):
        head.score(featood.extract(other, IMAGES, quiet=True))


def test_the_fingerprint_covers_structure_source_and_transform():
    class Prepared(Dataset):
        def __init__(self, transform):
            self.transform = transform

        def __len__(self):
            return 8

        def __getitem__(self, row):
            return IMAGES[row], 0

    strided = net()
    strided.conv.stride = (2, 2)
    sets = [
        featood.extract(net(), IMAGES[:8], quiet=True),
        featood.extract(strided, IMAGES[:8], quiet=True),
        featood.extract(net(), IMAGES[:8], dtype="float32", quiet=True),
        featood.extract(net(), Prepared("Resize(8)"), quiet=True),
        featood.extract(net(), Prepared("Resize(9)"), quiet=True),
    ]
    assert len({features.fingerprint for features in sets}) == len(sets)
    assert sets[0].fingerprint == featood.extract(net(), IMAGES[8:], quiet=True).fingerprint


def test_unknown_parts_of_the_fingerprint_are_reported(capsys):
    scope: dict = {}
    exec("import torch.nn as nn\nclass Hidden(nn.Linear): pass", scope)
    module = nn.Sequential(nn.Flatten(), scope["Hidden"](192, 2))
    featood.extract(module, DataLoader(IMAGES, 16, shuffle=True, drop_last=True))
    err = capsys.readouterr().err
    for text in (
        "source of Hidden is unavailable",
        "preprocessing of the inputs is unknown",
        "shuffles",
        "the last 2 inputs are left out",
    ):
        assert text in err
    featood.extract(module, IMAGES, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_stored_set_is_available_to_commands(tmp_path, featood):
    from featood import extract

    loader = DataLoader(TensorDataset(IMAGES, LABELS), 16)
    for split in ("train", "test"):
        stored = extract(
            net(),
            loader,
            cache=tmp_path / "cache",
            name=f"mynet/photos/{split}",
            classes=list("abc"),
            quiet=True,
        )
    extract(
        net(), torch.rand(20, 3, 8, 8), cache=tmp_path / "cache", name="mynet/odd/test", ood=True, quiet=True
    )
    plain = extract(net(), loader, quiet=True)
    assert stored.fingerprint == plain.fingerprint and stored.classes == ("a", "b", "c")
    assert stored.features["avg"][:].tobytes() == plain.features["avg"].tobytes()
    assert featood("fit", "mahalanobis")[0] == 0
    code, out, _ = featood("score", "--ood", "odd")
    assert code == 0 and "mahalanobis" in out
    code, _, err = featood("score", "--ood", "textures")
    assert code == 3 and "featood.extract" in err
    assert len(open_cache(tmp_path / "cache").entries()) == 3
    with pytest.raises(Mismatch, match="inputs_sha256"):
        extract(net(), IMAGES[:9], cache=tmp_path / "cache", name="mynet/photos/test", quiet=True)
    extract(net(), IMAGES[:9], cache=tmp_path / "cache", name="mynet/photos/test", overwrite=True, quiet=True)
    with pytest.raises(UsageError, match="backbone/dataset/split"):
        extract(net(), IMAGES, cache=tmp_path / "cache", quiet=True)


def test_networks_on_vectors_and_on_tokens():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    rows = torch.randn(20, 5)
    features = featood.extract(mlp, rows, dtype="float32", quiet=True)
    with torch.inference_mode():
        assert np.allclose(features.feature(), mlp[:2](rows), atol=1e-6)
        assert np.allclose(features.logits, mlp(rows), atol=1e-6)

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc = nn.Embedding(11, 6), nn.Linear(6, 4)

        def forward(self, numbers):
            return self.fc(self.embed(numbers).mean(1))

    words = torch.randint(0, 11, (20, 7))
    features = featood.extract(Words(), words, dtype="float32", quiet=True)
    weight, bias = features.classifier
    assert np.allclose(features.feature() @ weight.T + bias, features.logits, atol=1e-5)
