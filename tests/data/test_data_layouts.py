import gzip
import os
import struct

import numpy as np
import pytest
from PIL import Image

from featood.data import available_splits, image_list_of, open_dataset
from featood.errors import DataError, UsageError

RNG = np.random.default_rng(0)


def save(path, value=0, size=(4, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)


def values(images):
    return [int(images.read(i).reshape(-1)[0]) for i in range(len(images))]


# --- packed npz -------------------------------------------------------------------------------------------


def test_npz_with_and_without_labels(tmp_path):
    (tmp_path / "mnist").mkdir()
    x = RNG.integers(256, size=(5, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "mnist" / "test.npz", images=x, labels=np.array([0, 9, -1, 3, 3], np.int16))
    np.savez_compressed(tmp_path / "mnist" / "corrupted.npz", images=x[:2])
    assert available_splits("mnist", tmp_path) == ["test", "corrupted"]
    test = open_dataset("mnist", "test", tmp_path)
    assert (test.name, test.split, len(test), test.classes[9]) == ("mnist", "test", 5, "9")
    assert test.labels.tolist() == [0, 9, -1, 3, 3]
    np.testing.assert_array_equal(test.array, x[..., 0])
    assert open_dataset("mnist", "corrupted", tmp_path).labels is None


@pytest.mark.parametrize(
    "case", ["object", "float", "no-images", "text", "npy", "truncated", "one-based", "empty"]
)
def test_bad_npz(tmp_path, case):
    (tmp_path / "mnist").mkdir()
    path = tmp_path / "mnist" / "test.npz"
    x = np.zeros((3, 28, 28), np.uint8)
    if case == "object":
        np.savez(path, images=np.array([Boom(tmp_path / "pwned")], dtype=object))
    elif case == "float":
        np.savez(path, images=x + 0.3)
    elif case == "no-images":
        np.savez(path, features=x)
    elif case == "text":
        path.write_text("<html>")
    elif case == "npy":
        with open(path, "wb") as file:
            np.save(file, x)
    elif case == "truncated":
        np.savez(path, images=x)
        path.write_bytes(path.read_bytes()[:-200])
    elif case == "one-based":
        np.savez(path, images=x, labels=np.array([1, 2, 10]))
    elif case == "empty":
        np.savez(path, images=x[:0])
    with pytest.raises(DataError) as caught:
        open_dataset("mnist", "test", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


class Boom:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# --- folders ----------------------------------------------------------------------------------------------


def test_ranks_of_class_folders_are_the_same_in_all_splits(tmp_path):
    for wnid, value in (("n02", 2), ("n01", 1), ("n03", 3)):
        save(tmp_path / "imagenet" / "train" / wnid / "x.JPEG", value)
    save(tmp_path / "imagenet" / "val" / "n03" / "a.JPEG", 3)
    save(tmp_path / "imagenet" / "val" / "n01" / "b.PNG", 1)
    (tmp_path / "imagenet" / "val" / "n01" / ".DS_Store").write_text("")
    (tmp_path / "imagenet" / "val" / "n01" / "notes.txt").write_text("")
    save(tmp_path / "imagenet" / "val" / "n01" / "._b.png")
    assert available_splits("imagenet", tmp_path) == ["train", "val"]
    train, val = (open_dataset("imagenet", split, tmp_path) for split in ("train", "val"))
    assert train.classes == val.classes == ("n01", "n02", "n03")
    assert train.labels.tolist() == [0, 1, 2]
    assert val.ids == ("n01/b.PNG", "n03/a.JPEG")
    assert val.labels.tolist() == [0, 2]
    assert open_dataset("imagenet", None, tmp_path).split == "val"


def test_class_folders_without_splits_are_the_test_split(tmp_path):
    for name in ("b", "a"):
        save(tmp_path / "imagenet-o" / name / "deep" / "x.png")
    images = open_dataset("imagenet-o", None, tmp_path)
    assert (images.split, images.ids, images.labels.tolist()) == (
        "test",
        ("a/deep/x.png", "b/deep/x.png"),
        [0, 1],
    )


def test_an_empty_class_folder_is_an_error(tmp_path):
    for name in ("a", "c"):
        save(tmp_path / "set" / "test" / name / "x.png")
    (tmp_path / "set" / "test" / "b").mkdir()
    with pytest.raises(DataError, match=r"without images \(b\)"):
        open_dataset("set", "test", tmp_path)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("lsun-crop", ["LSUN/test/1.png", "LSUN/test/0.png"]),
        ("lsun-resize", ["LSUN_resize/LSUN_resize/0.png", "LSUN_resize/LSUN_resize/1.png"]),
        ("isun", ["iSUN/iSUN_patches/0.jpeg", "iSUN/iSUN_patches/1.jpeg"]),
        ("tiny-imagenet-crop", ["Imagenet/test/0.png", "Imagenet/test/1.png"]),
        ("tiny-imagenet-resize", ["tiny-imagenet-resize/0.png", "tiny-imagenet-resize/1.png"]),
        ("inaturalist", ["iNaturalist/images/0.jpg", "iNaturalist/images/1.jpg"]),
        ("textures", ["dtd/images/a/0.jpg", "dtd/images/b/1.jpg"]),
        ("ninco", ["NINCO/NINCO_OOD_classes/0.jpg", "NINCO/NINCO_OOD_classes/1.jpg"]),
        ("places365", ["Places/images/0.jpg", "Places/images/1.jpg"]),
    ],
)
def test_folders_without_labels(tmp_path, name, files):
    for file in files:
        save(tmp_path / file)
    images = open_dataset(name, None, tmp_path)
    assert (images.split, len(images), images.labels) == ("test", 2, None)
    assert list(images.ids) == sorted(images.ids)


def test_folder_loops_and_links(tmp_path):
    save(tmp_path / "elsewhere" / "x.png", 5)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    assert open_dataset("set", "test", tmp_path).ids == ("x.png",)


def test_imagenet_is_distinguished_from_the_odin_folder_imagenet(tmp_path):
    save(tmp_path / "imagenet" / "val" / "a" / "x.png")
    save(tmp_path / "imagenet" / "val" / "b" / "x.png")
    assert available_splits("tiny-imagenet-crop", tmp_path) == []


# --- lists ------------------------------------------------------------------------------------------------


def test_image_list(tmp_path):
    save(tmp_path / "set" / "pics" / "a b.png", 1)
    save(tmp_path / "set" / "pics" / "c.png", 2)
    (tmp_path / "set" / "test.txt").write_text("pics/c.png 7\n\npics/a b.png -1\npics/a b.png\n")
    images = open_dataset("set", "test", tmp_path)
    assert images.ids == ("pics/c.png", "pics/a b.png", "pics/a b.png")
    assert images.labels.tolist() == [7, -1, -1]
    assert values(images) == [2, 1, 1]


@pytest.mark.parametrize("line", ["../../etc/x.png 0", "/etc/x.png 0", "a/../../x.png"])
def test_paths_of_an_image_list_must_be_below_its_root(tmp_path, line):
    save(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "test.txt").write_text(f"a.png 0\n{line}\n")
    with pytest.raises(DataError, match="line 2"):
        open_dataset("set", "test", tmp_path)


def test_openood_lists(tmp_path):
    lists = tmp_path / "benchmark_imglist"
    for folder in ("cifar10", "imagenet"):
        (lists / folder).mkdir(parents=True)
    save(tmp_path / "images_classic" / "texture" / "x.jpg")
    save(tmp_path / "images_largescale" / "ssb_hard" / "y.jpg")
    (lists / "cifar10" / "test_texture.txt").write_text("texture/x.jpg -1\n")
    (lists / "imagenet" / "test_ssb_hard.txt").write_text("ssb_hard/y.jpg -1\n")
    (lists / "imagenet" / "test_ninco.txt").write_text("ninco/not-there.jpg -1\n")
    textures = open_dataset("textures", None, tmp_path)
    assert (textures.ids, textures.labels, textures.read(0).shape) == (("texture/x.jpg",), None, (4, 4, 3))
    assert open_dataset("ssb-hard", None, tmp_path).read(0).shape == (4, 4, 3)
    assert available_splits("ninco", tmp_path) == []
    given = open_dataset(str(lists / "cifar10" / "test_texture.txt"), None, tmp_path)
    assert given.read(0).shape == (4, 4, 3)


def test_the_image_list_of_a_benchmark(tmp_path):
    """The lists of a set differ between benchmarks, and are not what is read by its name alone."""
    for folder, count in (("cifar10", 3), ("cifar100", 2)):
        path = tmp_path / "benchmark_imglist" / folder / "test_tin.txt"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"tin/val/images/val_{number}.png -1\n" for number in range(count)))
    for number in range(3):
        save(tmp_path / "images_classic" / "tin" / "val" / "images" / f"val_{number}.png")
        save(tmp_path / "tiny-imagenet" / "test" / f"{number}.png")
    save(tmp_path / "tiny-imagenet" / "test" / "4.png")
    sizes = {"tiny-imagenet": 4, "tiny-imagenet:list=cifar10": 3, "tiny-imagenet:list=cifar100": 2}
    for name, size in sizes.items():
        images = open_dataset(name, None, tmp_path)
        assert (images.name, len(images)) == (name, size)
        if "list" in name:
            assert "the split test is read from test_tin.txt" in images.notes
            assert (
                f"the rows are those of the image list of the benchmark {name.partition('=')[2]}"
                in images.notes
            )
    assert len(open_dataset("tiny-imagenet:list=cifar10,limit=2", None, tmp_path)) == 2
    found = {name: image_list_of(name, tmp_path) for name in (*sizes, "svhn")}
    assert list(found.values()) == ["", "cifar10", "cifar100", ""]
    (tmp_path / "tiny-imagenet").rename(tmp_path / "other")
    assert image_list_of("tiny-imagenet", tmp_path) == "cifar10"
    assert available_splits("tiny-imagenet:list=mnist", tmp_path) == []
    with pytest.raises(DataError, match=r"put the image list <split>_tin.txt of its benchmark into .*mnist"):
        open_dataset("tiny-imagenet:list=mnist", None, tmp_path)
    with pytest.raises(
        UsageError, match="has no image list of 'imagenet', only those of cifar10, cifar100, mnist"
    ):
        open_dataset("tiny-imagenet:list=imagenet", None, tmp_path)
    (tmp_path / "images_classic").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"line 1: 'tin/val/images/val_0.png' does not exist"):
        open_dataset("tiny-imagenet:list=cifar10", None, tmp_path)


# --- the files of particular sets -------------------------------------------------------------------------


def write_idx(path, array, packed):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    data = head + array.astype(np.uint8).tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", "MNIST/raw"), ("fashion-mnist", "fashion-mnist/FashionMNIST/raw"), ("kmnist", "kmnist")],
)
def test_idx_files(tmp_path, name, folder, packed):
    x, y = RNG.integers(256, size=(6, 28, 28)), np.array([3, 0, 9, 1, 1, 2])
    write_idx(tmp_path / folder / "t10k-images-idx3-ubyte", x, packed)
    write_idx(tmp_path / folder / "t10k-labels-idx1-ubyte", y, packed)
    assert available_splits(name, tmp_path) == ["test"]
    images = open_dataset(name, None, tmp_path)
    np.testing.assert_array_equal(images.array, x)
    np.testing.assert_array_equal(images.labels, y)
    assert available_splits("fashion-mnist" if name == "mnist" else "mnist", tmp_path) == []


def test_emnist_letters_are_upright_and_numbered_from_zero(tmp_path):
    x = RNG.integers(256, size=(2, 28, 28))
    folder = tmp_path / "EMNIST" / "raw"
    write_idx(folder / "emnist-letters-train-images-idx3-ubyte", x, False)
    write_idx(folder / "emnist-letters-train-labels-idx1-ubyte", np.array([1, 26]), False)
    images = open_dataset("emnist-letters", "train", tmp_path)
    np.testing.assert_array_equal(images.read(1), x[1].T)
    assert [images.classes[label] for label in images.labels] == ["a", "z"]


@pytest.mark.parametrize("damage", ["short", "long", "magic", "huge", "gz"])
def test_damaged_idx(tmp_path, damage):
    folder = tmp_path / "mnist"
    write_idx(folder / "t10k-images-idx3-ubyte", np.zeros((2, 28, 28)), damage == "gz")
    write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(2), False)
    path = folder / ("t10k-images-idx3-ubyte" + (".gz" if damage == "gz" else ""))
    data = path.read_bytes()
    path.write_bytes(
        {
            "short": data[:-1],
            "long": data + b"0",
            "magic": b"\0\0\x0d\x03" + data[4:],
            "huge": data[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 28),
            "gz": data[:-5],
        }[damage]
    )
    with pytest.raises(DataError, match="idx3"):
        open_dataset("mnist", "test", tmp_path)


@pytest.mark.parametrize("folder", ["", "svhn"])
def test_svhn(tmp_path, folder):
    from scipy.io import savemat

    (tmp_path / folder).mkdir(exist_ok=True)
    x = RNG.integers(256, size=(32, 32, 3, 4), dtype=np.uint8)
    savemat(tmp_path / folder / "test_32x32.mat", {"X": x, "y": np.array([[10], [1], [9], [10]], np.uint8)})
    images = open_dataset("svhn", None, tmp_path)
    assert images.labels.tolist() == [0, 1, 9, 0]
    np.testing.assert_array_equal(images.read(2), x[..., 2])
    (tmp_path / folder / "test_32x32.mat").write_bytes(b"<html>" * 40)
    with pytest.raises(DataError, match="test_32x32"):
        open_dataset("svhn", None, tmp_path)


def test_dtd_partition(tmp_path):
    dtd = tmp_path / "dtd" / "dtd"
    for name in ("striped/striped_1.jpg", "banded/banded_1.jpg", "banded/banded_2.jpg"):
        save(dtd / "images" / name)
    (dtd / "labels").mkdir()
    (dtd / "labels" / "test1.txt").write_text("striped/striped_1.jpg\nbanded/banded_2.jpg\n")
    images = open_dataset("textures-hires", "test", tmp_path)
    assert images.ids == ("striped/striped_1.jpg", "banded/banded_2.jpg")
    assert images.labels.tolist() == [1, 0]
    assert images.read(0).shape == (4, 4, 3)


def test_gtsrb(tmp_path):
    base = tmp_path / "gtsrb" / "gtsrb"
    for sign in ("00000", "00001"):
        save(base / "GTSRB" / "Training" / sign / "x.ppm")
    assert available_splits("gtsrb", tmp_path) == ["train"], "training images must not be used as test images"
    assert open_dataset("gtsrb", "train", tmp_path).labels.tolist() == [0, 1]
    save(base / "GTSRB" / "Final_Test" / "Images" / "00000.ppm")
    (base / "GT-final_test.csv").write_text("Filename;Width;Height;ClassId\n00000.ppm;4;4;16\n")
    test = open_dataset("gtsrb", "test", tmp_path)
    assert (test.labels.tolist(), test.read(0).shape) == ([16], (4, 4, 3))


def test_celeba(tmp_path):
    base = tmp_path / "celeba"
    for i in range(3):
        save(base / "img_align_celeba" / f"{i}.jpg")
    (base / "list_eval_partition.txt").write_text("0.jpg 0\n1.jpg 2\n2.jpg 1\n")
    assert available_splits("celeba", tmp_path) == ["train", "val", "test"]
    assert [open_dataset("celeba", s, tmp_path).ids for s in ("train", "val", "test")] == [
        ("0.jpg",), ("2.jpg",), ("1.jpg",),
    ]  # fmt: skip


def test_places365_as_downloaded_by_torchvision(tmp_path):
    save(tmp_path / "places365" / "val_256" / "Places365_val_1.jpg")
    (tmp_path / "places365" / "places365_val.txt").write_text("Places365_val_1.jpg 165\n")
    images = open_dataset("places365", None, tmp_path)
    assert (images.split, images.labels.tolist(), images.read(0).shape) == ("val", [165], (4, 4, 3))


def test_tiny_imagenet_as_distributed(tmp_path):
    base = tmp_path / "tiny-imagenet-200"
    for wnid in ("n2", "n1"):
        save(base / "train" / wnid / "images" / "x.JPEG")
    for i in range(2):
        save(base / "val" / "images" / f"val_{i}.JPEG")
        save(base / "test" / "images" / f"test_{i}.JPEG")
    (base / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn2\t0\t0\t9\t9\nval_1.JPEG\tn1\t0\t0\t9\t9\n"
    )
    train, val, test = (open_dataset("tiny-imagenet", s, tmp_path) for s in ("train", "val", "test"))
    assert train.classes == val.classes == ("n1", "n2")
    assert (train.labels.tolist(), val.labels.tolist(), test.labels) == ([0, 1], [1, 0], None)
    assert len(test) == 2


def test_omniglot_is_white_on_black(tmp_path):
    page = np.full((9, 9), 255, np.uint8)
    page[4] = 0
    for name in ("Angelic/character01", "Tengwar/character02"):
        path = tmp_path / "omniglot" / "omniglot-py" / "images_evaluation" / name / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(page).convert("1").save(path)
    images = open_dataset("omniglot", None, tmp_path)
    np.testing.assert_array_equal(images.read(1), 255 - page)
    assert len(images) == 2
