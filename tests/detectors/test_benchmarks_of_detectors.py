"""Benchmarks with the names of pytorch-ood: the same sets, names and results as there, on small files."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, TensorDataset

import featood.detectors as d
from featood.data import benchmark
from featood.detectors.benchmark_sets import ALIASES, BENCHMARKS, MEDICAL
from featood.errors import DataError

RNG = np.random.default_rng(0)


def _tensors(*labels, shift=0.0):
    generator = torch.Generator().manual_seed(len(labels))
    return TensorDataset(torch.randn(len(labels), 4, generator=generator) + shift, torch.tensor(labels))


class Toy(d.Benchmark):
    def __init__(self):
        self.train_in = _tensors(*[0, 1, 2] * 10)
        self.test_in = _tensors(0, 1, 2, 2, 1)
        self.test_oods = [_tensors(-1, -1, -1, shift=1), _tensors(-1, -1, shift=-1)]
        self.ood_names = ["near", "far"]


class Counted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.calls = torch.nn.Linear(4, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.linear(x)

    def features(self, x):
        self.calls += 1
        return x[:, :3]


def test_results_are_those_of_pytorch_ood(detectors):
    from pytorch_ood.benchmark import Benchmark

    class Theirs(Toy, Benchmark):
        evaluate = Benchmark.evaluate

    torch.manual_seed(0)
    model = Counted().eval()
    for name in ("EnergyBased", "MaxSoftmax", "MaxLogit", "Entropy", "Mahalanobis"):
        encoder = model.features if name == "Mahalanobis" else model
        ours, theirs = (getattr(module, name)(encoder) for module in (d, detectors))
        for one in (ours, theirs):
            one.fit([Toy().train_in[:]])
        found = Toy().evaluate(ours, {"batch_size": 2})
        expected = Theirs().evaluate(theirs, {"batch_size": 2})
        assert [row["Dataset"] for row in found] == ["near", "far"]
        for row, other in zip(found, expected, strict=True):
            assert row.keys() == other.keys() and "Detector" not in row
            for key in row.keys() - {"Dataset"}:
                assert row[key] == pytest.approx(other[key], abs=1e-6), (name, key)


def test_results_are_the_metrics_of_both_sets():
    model = Counted().eval()
    for detector in (
        d.KNN(model.features, k=2).fit([Toy().train_in[:]]),
        d.ODIN(model, eps=0.1),
        d.MaxLogit(model),
    ):
        for row, rows in zip(Toy().evaluate(detector, {"batch_size": 3}), Toy().test_sets(), strict=True):
            x, y = map(torch.stack, zip(*rows, strict=True))
            expected = d.OODMetrics().update(detector(x), y).compute()
            assert {key: row[key] for key in expected} == pytest.approx(expected)
            assert ("ACC" in row) == isinstance(detector, d.LogitsDetector)


def test_detectors_share_what_a_model_computes():
    model = Counted().eval()
    pairs = [d.MaxSoftmax(model), d.EnergyBased(model)]
    rows = Toy().evaluate(pairs, {"batch_size": 2})
    assert model.calls == 3 + 2 + 1
    assert [(row["Dataset"], row["Detector"]) for row in rows] == [
        (name, detector) for name in ("near", "far") for detector in ("MaxSoftmax", "EnergyBased")
    ]
    fitted = [d.KNN(model.features, k=k).fit([Toy().train_in[:]]) for k in (1, 2)]
    before, toy = model.calls, Toy()
    first = toy.evaluate(fitted, {"batch_size": 5}, cache=True)
    assert model.calls == before + 3
    assert toy.evaluate(fitted, {"batch_size": 5}, cache=True) == first and model.calls == before + 3
    toy.evaluate(fitted, {"batch_size": 5})
    assert model.calls == before + 6
    assert len(toy.evaluate([fitted[0]])) == 2 and len(toy.evaluate([])) == 0


def test_sets_for_testing_are_known_unknown_or_both():
    toy = Toy()
    assert toy.train_set() is toy.train_in and toy.test_sets(unknown=False) == [toy.test_in]
    assert toy.test_sets(known=False) == toy.test_oods
    assert [len(one) for one in toy.test_sets()] == [8, 7]
    assert all(isinstance(one, ConcatDataset) for one in toy.test_sets())
    with pytest.raises(ValueError, match="must be true"):
        toy.test_sets(known=False, unknown=False)


def test_arguments_and_names_are_those_of_pytorch_ood(detectors):
    from pytorch_ood import benchmark as theirs

    assert {*BENCHMARKS, *MEDICAL, *ALIASES, "Benchmark"} == set(theirs.__all__)
    for name in theirs.__all__:
        if name != "Benchmark":
            ours, other = (
                [
                    (one.name, one.default)
                    for one in inspect.signature(getattr(module, name)).parameters.values()
                ]
                for module in (d, theirs)
            )
            assert ours == other, name
    for name, (_, of, sets) in BENCHMARKS.items():
        if lists := getattr(getattr(theirs, name), "_ood_imglists", None):
            assert list(sets) == [shown for shown, _ in lists], name
            assert set(sets.values()) == set(benchmark(of).sets)
    for name in MEDICAL:
        for attribute in (
            "cs_id_names",
            "near_ood_names",
            "far_ood_names",
            "_ood_imglists",
            "_train_imglist",
        ):
            assert getattr(getattr(d, name), attribute) == getattr(getattr(theirs, name), attribute)
    assert d.ImageNet1K_OpenOOD is d.ImageNet_OpenOOD


@pytest.mark.parametrize("name", [*BENCHMARKS, *MEDICAL])
def test_classes_are_made_once_and_describe_themselves(name):
    cls = getattr(d, name)
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert all(f"\n{argument}\n" in cls.__doc__ for argument in inspect.signature(cls).parameters)


def _image(path, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(256, size=(4, 4, 3)[: len(mode)], dtype=np.uint8)).save(path)


def _transform(image):
    assert image.mode == "RGB"
    return torch.from_numpy(np.array(image)).float().mean((0, 1))


def _listed(root, folder, files):
    lists = root / "benchmark_imglist" / folder
    lists.mkdir(parents=True, exist_ok=True)
    for name, labels in files.items():
        paths = [f"{name}/{number}.png" for number in range(len(labels))]
        for path in paths:
            _image(root / path, "L1" if "mnist" in name else "RGB")
        (lists / f"{name}.txt").write_text("".join(f"{p} {y}\n" for p, y in zip(paths, labels, strict=True)))


OUTLIERS = {
    "test_cifar100": [-1] * 2, "test_tin": [-1] * 3, "test_mnist": [-1] * 2, "test_svhn": [-1],
    "test_texture": [-1] * 2, "test_places365": [-1] * 2,
}  # fmt: skip


def test_openood_has_the_rows_of_its_lists(tmp_path, monkeypatch):
    files = {"train_cifar10": [0, 1, 2], "val_cifar10": [0], "val_tin": [-1], "test_cifar10": [0, 1, 2, 9]}
    _listed(tmp_path, "cifar10", files | OUTLIERS)
    with pytest.raises(
        DataError, match=r"cifar10/test_cifar10\.txt has 4 rows, and that of OpenOOD v1\.5 9000"
    ):
        d.CIFAR10_OpenOOD(tmp_path, _transform)
    published = benchmark("cifar10-openood").protocol.rows
    for path in list(published):  # short lists are those of the protocol from here on
        monkeypatch.delitem(published, path)
    bench = d.CIFAR10_OpenOOD(str(tmp_path), _transform)
    assert bench.ood_names == ["CIFAR100", "TinyImageNet", "MNIST", "SVHN", "Textures", "Places365"]
    assert [y for _, y in bench.train_set()] == [0, 1, 2]
    assert [y for _, y in bench.validation_set()] == [0, -1]
    assert [y for _, y in bench.test_sets(unknown=False)[0]] == [0, 1, 2, 9]
    assert [[y for _, y in one] for one in bench.test_sets(known=False)] == list(OUTLIERS.values())
    model = torch.nn.Linear(3, 10)
    rows = bench.evaluate([d.EnergyBased(model), d.MaxLogit(model)], {"batch_size": 4})
    assert len(rows) == 12 and all(0 <= row["AUROC"] <= 1 for row in rows)


def test_missing_lists_are_named(tmp_path):
    with pytest.raises(DataError, match=r"put the image list <split>_cifar100\.txt of its benchmark into"):
        d.CIFAR100_OpenOOD(tmp_path, _transform)
    with pytest.raises(
        DataError, match=r"there is no folder .*imglists/phakir: put the image lists of https"
    ):
        d.PhaKIR_OpenMIBOOD(tmp_path, _transform)


def test_imagenet_is_read_from_its_folder(tmp_path):
    from featood.data.images.class_names import IMAGENET200

    names = ("ssb_hard", "ninco", "inaturalist", "textures", "openimage_o")
    for folder in ("imagenet", "imagenet200"):
        files = {f"test_{folder}": [0, 1], f"train_{folder}": [1]}
        _listed(tmp_path, folder, files | {f"test_{name}": [-1] for name in names})
    for name in (IMAGENET200[3], "n99999999"):
        _image(tmp_path / f"ILSVRC/train/{name}/a.JPEG")
    for make, labels in ((d.ImageNet_OpenOOD, [0, 1]), (d.ImageNet200_OpenOOD, [0])):
        bench = make(tmp_path, _transform, image_net_root=tmp_path / "ILSVRC")
        assert [y for _, y in bench.train_set()] == labels
        assert [y for _, y in make(tmp_path, _transform).train_set()] == [1]
        assert [len(one) for one in bench.test_sets()] == [3] * 5


def test_odin_has_noise_and_the_archives_of_its_authors(tmp_path):
    for folder in ("Imagenet/test", "Imagenet_resize", "LSUN_resize", "LSUN/test"):
        _image(tmp_path / folder / "0.png")
    for split in ("train", "test"):
        images = RNG.integers(256, size=(4, 32, 32, 3), dtype=np.uint8)
        (tmp_path / "cifar10").mkdir(exist_ok=True)
        np.savez(tmp_path / f"cifar10/{split}.npz", images=images, labels=np.arange(4))
    bench = d.CIFAR10_ODIN(tmp_path, _transform)
    assert [len(one) for one in bench.test_sets(known=False)] == [1, 1, 1, 1, 1000, 1000]
    assert bench.ood_names[-2:] == ["UniformNoise", "GaussianNoise"] and len(bench.train_set()) == 4
    assert {y for one in bench.test_oods for _, y in one} == {-1}


def test_ssb_divides_the_classes_of_birds(tmp_path):
    root = tmp_path / "CUB_200_2011"
    lines = {"images": [], "image_class_labels": [], "train_test_split": []}
    for label in range(1, 201):
        for train in (0, 1):
            row, path = 2 * label + train, f"{label:03d}.Bird/{train}.png"
            _image(root / "images" / path)
            for name, value in zip(lines, (path, label, train), strict=True):
                lines[name].append(f"{row} {value}\n")
    for name, rows in lines.items():
        (root / f"{name}.txt").write_text("".join(rows))
    bench = d.CUB_SSB(tmp_path, _transform)
    assert bench.ood_names == ["Easy", "Hard"]
    assert [y for _, y in bench.train_set()] == [y for _, y in bench.test_in] == list(range(100))
    assert sum(map(len, bench.test_oods)) == 100 and {y for one in bench.test_oods for _, y in one} == {-1}


def test_volumes_are_read_by_a_loader(tmp_path):
    lists = tmp_path / "benchmark_imglist/oasis3"
    lists.mkdir(parents=True)
    cls = d.OASIS3_OpenMIBOOD
    for name in (cls._train_imglist, cls._test_imglist, *cls._ood_imglists):
        (lists / name).write_text("a/b.nii.gz 1\n")
    bench = cls(tmp_path, np.shape, loader=lambda path: np.zeros((2, len(path))))
    assert bench.train_set()[0] == ((2, len(f"{tmp_path}/a/b.nii.gz")), 1)
    assert [one[0][1] for one in bench.test_sets(known=False)] == [-1] * 7
    assert bench.ood_names == bench.cs_id_names + bench.near_ood_names + bench.far_ood_names
