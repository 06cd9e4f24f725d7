"""Image sets with the names of pytorch-ood: the same arguments, rows and labels as there, on small files."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import featood.detectors as d
from featood.data import get_entry
from featood.detectors.image_sets import LACKING, SETS
from featood.errors import DataError, UsageError

RNG = np.random.default_rng(0)
TREES = {
    "Chars74k": [f"chars74k/English/Img/GoodImg/Bmp/Sample{n:03d}/img{n:03d}-00001.png" for n in (1, 2, 3)],
    "NINCO": ["NINCO/NINCO_OOD_classes/amphiuma/a.jpeg", "NINCO/NINCO_OOD_classes/windsor/b.jpeg"],
    "Textures": [
        "dtd/images/banded/banded_2.jpg",
        "dtd/images/banded/banded_10.jpg",
        "dtd/images/waffled/w_1.jpg",
    ],
    "LSUNCrop": ["LSUN/test/2.jpg", "LSUN/test/10.jpg"],
    "LSUNResize": ["LSUN_resize/LSUN_resize/0.jpg", "LSUN_resize/LSUN_resize/1.jpg"],
    "TinyImageNetCrop": ["Imagenet/test/a.jpg", "Imagenet/test/b.jpg"],
    "TinyImageNetResize": ["Imagenet_resize/Imagenet_resize/a.jpg"],
    "FoolingImages": [f"10-runs-x-1000-cppns/run_{run}/map_gen_5000/map_{run}.png" for run in range(10)],
    "ImageNetA": ["imagenet-a/n01498041/a.jpg", "imagenet-a/n01531178/b.jpg"],
    "ImageNetO": ["imagenet-o/n01443537/a.JPEG", "imagenet-o/n01704323/b.JPEG"],
    "ImageNetR": ["imagenet-r/n01443537/a.jpg", "imagenet-r/n01484850/b.jpg", "imagenet-r/n01484850/c.jpg"],
    "iNaturalist": ["iNaturalist/images/a.jpg", "iNaturalist/images/b.jpg"],
    "ImageNetV2": [f"imagenet_v2/{label}/x.jpeg" for label in range(12)],
    "SSBHard": ["ssb_hard/n0001/a.JPEG", "ssb_hard/n0002/b.JPEG"],
    "Places365": ["places365/airfield/a.jpg", "places365/zen/b.jpg"],
    "FeatureVisDataset": ["fractals_and_fvis/first_layers_resized256_onevis/images/a.jpg"],
    "FractalDataset": ["fractals_and_fvis/fractals/images/a.jpg", "fractals_and_fvis/fractals/images/b.jpg"],
}
"""Files of sets with the plain arguments, where pytorch-ood looks for them."""


def _image(path, size=(6, 5), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    Image.fromarray(RNG.integers(256, size=shape, dtype=np.uint8)).save(path)


@pytest.fixture
def theirs(detectors, monkeypatch):
    """Image sets of pytorch-ood, without checks of archives."""
    import pytorch_ood.dataset.img as sets

    for name in (
        *TREES,
        "MNISTC",
        "CIFAR10C",
        "CIFAR100C",
        "TinyImageNet",
        "SegmentMeIfYouCan",
        "StreetHazards",
    ):
        monkeypatch.setattr(getattr(sets, name), "_check_integrity", lambda self: True)
    return sets


def _same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for row in range(len(theirs)):
        (image, label), (other, expected) = ours[row], theirs[row]
        assert isinstance(image, Image.Image) and label == int(expected) and isinstance(label, int)
        assert image.mode == other.mode and np.array_equal(np.asarray(image), np.asarray(other))


@pytest.mark.parametrize("name", TREES)
def test_rows_are_those_of_pytorch_ood(name, theirs, tmp_path):
    for path in TREES[name]:
        _image(tmp_path / path)
    ours = getattr(d, name)(str(tmp_path))
    _same(ours, getattr(theirs, name)(str(tmp_path)))
    labels = {label for _, label in ours}
    assert labels == {-1} or SETS[name][2]
    assert all(label == -1 for _, label in getattr(d, name)(tmp_path, target_transform=d.ToUnknown()))


def test_arguments_are_those_of_pytorch_ood(detectors):
    import pytorch_ood.dataset.img as sets
    from pytorch_ood.dataset.audio import FSDD

    for name in {*sets.__all__, "FSDD"} - LACKING.keys() - {"GaussianNoise"}:
        ours, theirs = (
            [(one.name, one.default) for one in inspect.signature(cls).parameters.values()]
            for cls in (getattr(d, name), FSDD if name == "FSDD" else getattr(sets, name))
        )
        assert ours == theirs, name
    assert set(sets.__all__) <= set(d.__all__)


def test_archives_have_the_checksums_of_pytorch_ood(detectors):
    import pytorch_ood.dataset.img as sets

    compared = 0
    for name, (_, entry, _) in SETS.items():
        cls = getattr(sets, name)
        theirs = getattr(cls, "tgz_md5", None) or getattr(cls, "md5hash", None)
        ours = [checksum for *_, checksum in get_entry(entry).files if checksum]
        if isinstance(theirs, str) and ours:
            assert ours == [f"md5:{theirs}"], name
            compared += 1
    assert compared > 10


def test_corruptions_are_those_of_pytorch_ood(theirs, tmp_path):
    kinds = theirs.CIFAR10C.subsets
    for folder in ("CIFAR-10-C", "CIFAR-100-C"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "labels.npy", np.tile([3, 1], 5))
        for kind in kinds:
            np.save(tmp_path / folder / f"{kind}.npy", RNG.integers(256, size=(10, 4, 4, 3), dtype=np.uint8))
    for name in ("CIFAR10C", "CIFAR100C"):
        for kind in ("fog", "all"):
            _same(*(getattr(module, name)(str(tmp_path), kind) for module in (d, theirs)))
    assert [label for _, label in d.CIFAR10C(tmp_path, "fog,severity=2")] == [3, 1]
    with pytest.raises(UsageError, match="no corruption is named 'mist'"):
        d.CIFAR10C(tmp_path, "mist")


def test_corrupted_digits_are_those_of_pytorch_ood(theirs, tmp_path):
    for kind in theirs.MNISTC.subsets:
        folder = tmp_path / "mnist_c" / kind
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            np.save(folder / f"{split}_images.npy", RNG.integers(256, size=(3, 4, 4, 1), dtype=np.uint8))
            np.save(folder / f"{split}_labels.npy", RNG.integers(10, size=3))
    for arguments in (("fog", "test"), ("identity", "train"), ("all", "test")):
        _same(*(module.MNISTC(str(tmp_path), *arguments) for module in (d, theirs)))


def test_tiny_imagenet_has_its_splits(theirs, tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for path in (
        "train/n02/images/a.JPEG",
        "train/n01/images/b.JPEG",
        "val/images/v.JPEG",
        "test/images/t.JPEG",
    ):
        _image(root / path)
    (root / "val/val_annotations.txt").write_text("v.JPEG\tn02\t0\t0\t5\t5\n")
    (root / "wnids.txt").write_text("n01\nn02\n")
    for arguments in ((), ("val",), ("test",)):
        _same(*(module.TinyImageNet(str(tmp_path), *arguments) for module in (d, theirs)))
    with pytest.raises(DataError, match="no split 'extra'"):
        d.TinyImageNet(tmp_path, "extra")


def test_sets_of_one_file_are_those_of_pytorch_ood(theirs, tmp_path):
    np.save(tmp_path / "300K_random_images.npy", RNG.integers(256, size=(4, 8, 8, 3), dtype=np.uint8))
    np.savez(tmp_path / "samples-50.0.npz", x=RNG.integers(256, size=(4, 3, 8, 8), dtype=np.uint8))
    for name in ("TinyImages300k", "CIFAR100GAN"):
        _same(*(getattr(module, name)(str(tmp_path)) for module in (d, theirs)))
    with pytest.raises(UsageError, match="sigma 50, not 2"):
        d.CIFAR100GAN(tmp_path, sigma=2.0)


def test_classes_of_imagenet_are_divided(tmp_path):
    from featood.data.images.class_names import IMAGENET200

    for name in (IMAGENET200[0], IMAGENET200[7], "n99999999"):
        _image(tmp_path / f"train/{name}/{name}_1.JPEG")
    _image(tmp_path / "imagenet_1k/val/ILSVRC2012_val_00000001.JPEG")
    lists = tmp_path / "benchmark_imglist/imagenet200"
    lists.mkdir(parents=True)
    (lists / "test_imagenet200.txt").write_text("imagenet_1k/val/ILSVRC2012_val_00000001.JPEG 7\n")
    assert [label for _, label in d.ImageNet200(tmp_path, split="train")] == [0, 1]
    assert [label for _, label in d.ImageNet200(tmp_path)] == [7]
    assert [label for _, label in d.ImageNet800(tmp_path)] == [-1]
    with pytest.raises(ValueError, match="no split 'bogus'"):
        d.ImageNet200(tmp_path, split="bogus")
    with pytest.raises(DataError, match="no folder train/"):
        d.ImageNet800(tmp_path / "lists")


def test_textures_have_the_rows_of_all_splits(theirs, tmp_path):
    names = ["banded/banded_2.jpg", "banded/banded_10.jpg", "waffled/w_1.jpg"]
    (tmp_path / "dtd/labels").mkdir(parents=True)
    for split, name in zip(("test", "train", "val"), names, strict=True):
        _image(tmp_path / "dtd/images" / name)
        (tmp_path / f"dtd/labels/{split}1.txt").write_text(f"{name}\n")
    _same(d.Textures(tmp_path), theirs.Textures(str(tmp_path)))
    assert d.Textures(tmp_path).inputs.labels.tolist() == [0, 0, 1]
    for split in ("train", "test"):
        _image(tmp_path / f"other/textures/{split}/banded/{split}.jpg")
        _image(tmp_path / f"other/textures/{split}/waffled/{split}.jpg")
    ids = d.Textures(tmp_path / "other").inputs.ids
    assert ids == tuple(
        f"{split}/{name}/{split}.jpg" for split in ("test", "train") for name in ("banded", "waffled")
    )


def test_imagenet_es_has_the_classes_of_its_list(tmp_path):
    _image(tmp_path / "imagenet_es/es-test/auto/param/n01/a.JPEG")
    lists = tmp_path / "benchmark_imglist/imagenet"
    lists.mkdir(parents=True)
    (lists / "test_imagenet_es.txt").write_text("imagenet_es/es-test/auto/param/n01/a.JPEG 17\n")
    assert [label for _, label in d.ImageNetES(tmp_path)] == [17]


def test_rows_of_openimage_o_are_those_of_its_list(tmp_path):
    _image(tmp_path / "openimage_o/images/a.jpg")
    with pytest.raises(DataError, match=r"put the image list <split>_openimage_o\.txt"):
        d.OpenImagesO(tmp_path)
    lists = tmp_path / "benchmark_imglist/imagenet"
    lists.mkdir(parents=True)
    (lists / "test_openimage_o.txt").write_text("openimage_o/images/a.jpg -1\n")
    assert [label for _, label in d.OpenImagesO(tmp_path)] == [-1]


def test_lists_are_read_as_by_pytorch_ood(theirs, tmp_path):
    _image(tmp_path / "a.png")
    _image(tmp_path / "b c.png")
    _image(tmp_path / "#d.png")
    path = tmp_path / "list.txt"
    path.write_text("# header\n\na.png 3\n  # another comment\na.png -1\n")
    _same(*(module.ImageListDataset(str(tmp_path), str(path)) for module in (d, theirs)))
    path.write_text("b c.png 1\n#d.png 0\n")  # a name that begins with the mark of comments is a name
    assert d.ImageListDataset(tmp_path, path).labels == [1, 0]
    path.write_text("x.nii.gz 2\n")
    loaded = d.ImageListDataset(tmp_path, path, loader=lambda name: name, target_transform=str)
    assert loaded[0] == (f"{tmp_path}/x.nii.gz", "2")
    path.write_text("../x.png 2\n")
    with pytest.raises(DataError, match="is outside"):
        d.ImageListDataset(tmp_path, path)


def test_a_missing_set_says_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"lsun-crop is not in .*: get it from the ODIN archives"):
        d.LSUNCrop(tmp_path)
    with pytest.raises(DataError, match=r"no public address: get it from https://github\.com/sgvaze/SSB"):
        d.SSBHard(tmp_path, download=True)


@pytest.mark.parametrize("name", LACKING)
def test_a_name_that_is_lacking_says_why(name):
    with pytest.raises(UsageError, match=f"there is no {name}: its "):
        getattr(d, name)("root", download=True)


@pytest.mark.parametrize("name", SETS)
def test_classes_are_made_once_and_describe_themselves(name):
    cls = getattr(d, name)
    assert pickle.loads(pickle.dumps(cls)) is cls and cls.name in cls.__doc__
    assert all(f"\n{argument}\n" in cls.__doc__ for argument in inspect.signature(cls).parameters)


def test_rows_can_be_read_by_workers(tmp_path):
    for path in TREES["LSUNCrop"]:
        _image(tmp_path / path)
    images = d.LSUNCrop(tmp_path, transform=np.array)
    x, y = next(iter(DataLoader(pickle.loads(pickle.dumps(images)), batch_size=2)))
    assert x.shape == (2, 6, 5, 3) and y.tolist() == [-1, -1]


def test_recordings_are_samples_and_digits(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "free-spoken-digit-dataset/recordings"
    folder.mkdir(parents=True)
    for digit, take in ((3, 0), (1, 7)):
        soundfile.write(folder / f"{digit}_theo_{take}.wav", np.full(10, digit / 10), 8000)
    rows = list(d.FSDD(tmp_path))
    assert [label for _, label in rows] == [1, 3]
    assert rows[0][0].shape == (10,) and np.allclose(rows[1][0], 0.3, atol=1e-4)


def _mask(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def test_masks_of_roads_are_those_of_pytorch_ood(theirs, tmp_path, monkeypatch):
    monkeypatch.setattr(theirs.SegmentMeIfYouCan, "dataset_length", {"RoadAnomaly21": 1})
    _mask(tmp_path / "SMIYC/dataset_AnomalyTrack/labels_masks/v0_labels_semantic.png", [[0, 1], [255, 0]])
    _mask(tmp_path / "SMIYC/dataset_AnomalyTrack/images/v0.jpg", np.zeros((2, 2)))
    expected = theirs.SegmentMeIfYouCan(str(tmp_path), "RoadAnomaly21")[0][1]
    image, mask = d.SegmentMeIfYouCan(tmp_path, "RoadAnomaly21")[0]
    assert isinstance(image, Image.Image) and mask.dtype == torch.int64
    assert mask.tolist() == expected.tolist() == [[0, -1], [d.SegmentMeIfYouCan.VOID_LABEL, 0]]
    with pytest.raises(UsageError, match="RoadAnomaly21 or RoadObstacle21"):
        d.SegmentMeIfYouCan(tmp_path, "RoadAnomaly")


def test_masks_have_outliers_classes_and_void_pixels(tmp_path):
    for kind in ("images", "annotations"):
        _mask(tmp_path / f"streethazards/test/{kind}/test/t5/1.png", [[1, 13], [14, 255]])
    _mask(tmp_path / "RoadAnomaly/RoadAnomaly_jpg/frames/a.jpg", np.zeros((1, 3)))
    _mask(tmp_path / "RoadAnomaly/RoadAnomaly_jpg/frames/a.labels/labels_semantic.png", [[0, 1, 2]])
    _mask(tmp_path / "fishyscapes/leftImg8bit/train/x/04_x_leftImg8bit.png", np.zeros((1, 3)))
    _mask(tmp_path / "fishyscapes/0000_04_x_labels.png", [[0, 1, 255]])
    for path, values in (("test/good/1.png", [[5]]), ("test/hole/2.png", [[5]]), ("train/good/3.png", [[5]])):
        _mask(tmp_path / "mvtech-ad/bottle" / path, values)
    _mask(tmp_path / "mvtech-ad/bottle/ground_truth/hole/2_mask.png", [[255]])
    street = d.StreetHazards(tmp_path, "test", transform=lambda image, mask: (image.size, mask.tolist()))
    assert street[0] == ((2, 2), [[0, 12], [-1, 255]])
    assert d.LostAndFound(tmp_path)[0][1].tolist() == [[0, -1, 1]]
    assert d.RoadAnomaly(tmp_path)[0][1].tolist() == [[0, 0, -1]]
    bottles = d.MVTechAD(tmp_path, "test", "bottle", target_transform=torch.Tensor.item)
    assert [label for _, label in bottles] == [0, -1]
    assert len(d.MVTechAD(tmp_path, "train", "bottle")) == 1
    with pytest.raises(UsageError, match="name a category"):
        d.MVTechAD(tmp_path, "test")


def test_a_set_is_downloaded_only_if_it_is_missing(tmp_path, monkeypatch):
    from featood.detectors import rows

    asked = []

    def download(name, root, torchvision, reporter):
        asked.append((name, torchvision))
        _image(tmp_path / TREES["LSUNCrop"][0])
        return ["test"]

    monkeypatch.setattr(rows, "download_set", download)
    for _ in range(2):
        assert len(d.LSUNCrop(tmp_path, download=True)) == 1
    assert asked == [("lsun-crop", None)]
    with pytest.raises(DataError, match="textures is not in"):  # what was downloaded above is another set
        d.Textures(tmp_path, download=True)
    assert [name for name, _ in asked] == ["lsun-crop", "textures"] and asked[1][1].__name__ == "torchvision"
