"""Sets with covariate shifts, of outliers, and fine-grained and medical ones, on small files of these layouts."""

import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from featood.data import available_splits, get_entry, open_dataset, packed_set, suite
from featood.data.selection import select_classes, selected_classes
from featood.errors import DataError, UsageError
from featood.pipeline.leakage import overlap

RNG = np.random.default_rng(0)


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 2, 3), value, np.uint8)).save(path)


# --- corruptions ----------------------------------------------------------------------------------------


@pytest.fixture
def cifar_c(tmp_path):
    """Four test images at five severities; a pixel tells the corruption, the severity and the image."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for number, kind in enumerate(("brightness", "fog", "snow")):
        images = np.zeros((20, 32, 32, 3), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = number, np.repeat(np.arange(1, 6), 4)
        images[:, 0, 0, 2] = np.tile(np.arange(4), 5)
        np.save(folder / f"{kind}.npy", images)
    np.save(folder / "labels.npy", np.tile([3, 1, 4, 1], 5).astype(np.uint8))
    return tmp_path


def test_one_corruption_of_cifar(cifar_c):
    images = open_dataset("cifar10-c:fog,severity=3", None, cifar_c)
    assert images.labels.tolist() == [3, 1, 4, 1] and images.classes[3] == "cat"
    assert images.array[:, 0, 0].tolist() == [[1, 3, row] for row in range(4)]
    every = open_dataset("cifar10-c:snow", None, cifar_c)
    assert len(every) == 20 and every.array[:, 0, 0, 1].tolist() == sorted([1, 2, 3, 4, 5] * 4)
    assert any("small files" in note for note in every.notes)


def test_a_corruption_drawn_for_each_image_of_cifar(cifar_c):
    images = open_dataset("cifar10-c", None, cifar_c)
    assert images.labels.tolist() == [3, 1, 4, 1]
    rng = np.random.default_rng(0)
    kinds, levels = rng.integers(3, size=4), rng.integers(5, size=4) + 1
    assert images.array[:, 0, 0].tolist() == [[kinds[row], levels[row], row] for row in range(4)]
    assert any("one of 3 corruptions" in note and "seed 0" in note for note in images.notes)
    fixed = open_dataset("cifar10-c:severity=2,seed=5", None, cifar_c)
    assert set(fixed.array[:, 0, 0, 1].tolist()) == {2}


def test_wrong_corruptions(cifar_c):
    for name, says in (
        ("cifar10-c:fogg", "no corruption is named 'fogg'"),
        ("cifar10-c:fog,severity=6", "1 to 5, not 6"),
        ("cifar10-c:fog,level=1", "no option"),
    ):
        with pytest.raises(UsageError, match=says):
            open_dataset(name, None, cifar_c)
    with pytest.raises(DataError, match="cifar10-c is not in"):
        open_dataset("cifar10-c:frost", None, cifar_c)
    np.save(cifar_c / "CIFAR-10-C" / "fog.npy", np.zeros((19, 32, 32, 3), np.uint8))
    with pytest.raises(DataError, match="19 images, but there are 20 labels"):
        open_dataset("cifar10-c:fog", None, cifar_c)


def test_packed_splits_are_read_too(tmp_path):
    (tmp_path / "cifar10-c").mkdir()
    np.savez(
        tmp_path / "cifar10-c" / "test.npz", images=np.ones((3, 32, 32, 3), np.uint8), labels=np.arange(3)
    )
    assert open_dataset("cifar10-c", None, tmp_path).labels.tolist() == [0, 1, 2]
    with pytest.raises(DataError):
        open_dataset("cifar10-c:fog", None, tmp_path)


def test_corrupted_digits(tmp_path):
    for number, kind in enumerate(("fog", "stripe", "identity")):
        folder = tmp_path / "mnist_c" / kind
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            np.save(folder / f"{split}_images.npy", np.full((6, 28, 28, 1), 10 * number, np.uint8))
            np.save(folder / f"{split}_labels.npy", np.arange(6))
    assert available_splits("mnist-c", tmp_path) == ["train", "test"]
    stripe = open_dataset("mnist-c:stripe", "train", tmp_path)
    assert stripe.array.shape == (6, 28, 28) and (stripe.array == 10).all()
    drawn = open_dataset("mnist-c", None, tmp_path)
    assert set(np.unique(drawn.array)) == {0, 10} and drawn.labels.tolist() == list(range(6))


@pytest.mark.parametrize("above", ["", "weather/"])
def test_corrupted_photographs(tmp_path, above):
    for severity in "35":
        for wnid in ("n01440764", "n01443537"):
            picture(tmp_path / f"ImageNet-C/{above}fog/{severity}/{wnid}/a.JPEG", int(severity))
    images = open_dataset("imagenet-c:fog,severity=5", None, tmp_path)
    assert images.classes == ("n01440764", "n01443537") and images.labels.tolist() == [0, 1]
    assert images.read(0)[0, 0, 0] == 5
    assert open_dataset("imagenet-c:fog", None, tmp_path).read(0)[0, 0, 0] == 3
    with pytest.raises(DataError):
        open_dataset("imagenet-c", None, tmp_path)


def test_digits_with_noise(tmp_path):
    (tmp_path / "mnist").mkdir()
    digits = RNG.integers(0, 256, (300, 28, 28), dtype=np.uint8)
    for split in ("train", "test"):
        np.savez(tmp_path / "mnist" / f"{split}.npz", images=digits, labels=np.arange(300) % 10)
    images = open_dataset("mnist-noise", None, tmp_path)
    assert available_splits("mnist-noise", tmp_path) == ["test"]
    added = images.array.astype(int) - digits
    dark = digits < 127
    assert added.min() >= 0 and added[dark].max() in (127, 128)
    assert abs(added[dark].mean() - 63.75) < 1
    assert (images.array[digits == 255] == 255).all()
    assert images.digest() == open_dataset("mnist-noise", None, tmp_path).digest()
    assert images.digest() != open_dataset("mnist-noise:seed=1", None, tmp_path).digest()
    (tmp_path / "mnist" / "test.npz").unlink()
    with pytest.raises(DataError):  # the training images are not noisy digits
        open_dataset("mnist-noise", None, tmp_path)


# --- outliers for training, and photographs -------------------------------------------------------------


def test_packed_outliers(tmp_path):
    np.save(tmp_path / "300K_random_images.npy", np.zeros((5, 32, 32, 3), np.uint8))
    np.savez(tmp_path / "samples-50.0.npz", x=np.ones((4, 32, 32, 3), np.uint8))
    for name, rows in (("tiny-images-300k", 5), ("cifar100-gan", 4)):
        assert available_splits(name, tmp_path) == ["train"]
        images = open_dataset(name, None, tmp_path)
        assert len(images) == rows and images.labels is None


FOLDERS = {
    "fractals": ("fractals_and_fvis/fractals/images/{}.jpg", None),
    "feature-vis": ("fractals_and_fvis/first_layers_resized256_onevis/images/{}.jpg", None),
    "fooling-images": ("10-runs-x-1000-cppns/run_{}/map_gen_5000/a.png", None),
    "chars74k": ("English/Img/GoodImg/Bmp/Sample00{}/img001-00001.png", 3),
    "imagenet-v2": ("imagenetv2-matched-frequency-format-val/{}/a.jpeg", 3),
    "ninco": ("ninco/NINCO_OOD_classes/c{}/a.jpg", 3),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_images(tmp_path, name):
    pattern, classes = FOLDERS[name]
    for number in range(3):
        picture(tmp_path / pattern.format(number), number)
    # other files in the same archives
    picture(tmp_path / "10-runs-x-1000-cppns" / "run_0" / "map_gen_10" / "b.png")
    picture(tmp_path / "English" / "Img" / "BadImag" / "Bmp" / "Sample001" / "x.png")
    picture(tmp_path / "ninco" / "NINCO_popular_datasets_subsamples" / "x" / "y.jpg")
    images = open_dataset(name, None, tmp_path)
    assert [images.read(row)[0, 0, 0] // 1 for row in range(3)] == [0, 1, 2] and len(images) == 3
    assert (images.labels is None) == (classes is None)


def test_an_unpacked_archive_of_characters(tmp_path):
    source = tmp_path / "made" / "English" / "Img" / "GoodImg" / "Bmp"
    for number in (1, 2):
        picture(source / f"Sample00{number}" / "a.png")
    picture(tmp_path / "made" / "English" / "Img" / "BadImag" / "Bmp" / "Sample001" / "x.png")
    with tarfile.open(tmp_path / "chars74k.tgz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "English", "English")
    assert len(open_dataset("chars74k", None, tmp_path)) == 2


def test_classes_of_imagenet(tmp_path):
    inside = get_entry("imagenet200").classes
    assert "n01440764" not in inside  # the tench, the first class of ImageNet
    for split in ("train", "val"):
        for number, wnid in enumerate((inside[7], "n01440764", inside[0])):
            picture(tmp_path / "imagenet" / split / wnid / "a.JPEG", number)
    images = open_dataset("imagenet200", "val", tmp_path)
    assert images.classes == inside and images.labels.tolist() == [0, 7]
    assert images.read(1)[0, 0, 0] == 0
    others = open_dataset("imagenet800", "train", tmp_path)
    assert len(others) == 1 and others.read(0)[0, 0, 0] == 1
    assert len(set(inside)) == 200 and list(inside) == sorted(inside)


# --- fine-grained sets ----------------------------------------------------------------------------------


def test_birds(tmp_path):
    folder = tmp_path / "CUB_200_2011"
    rows = [(1, "001.Albatross/a.jpg", 1, 0), (2, "001.Albatross/b.jpg", 1, 1), (3, "002.Wren/c.jpg", 2, 0)]
    for number, name, _, _ in rows:
        picture(folder / "images" / name, number)
    (folder / "images.txt").write_text("".join(f"{row[0]} {row[1]}\n" for row in rows))
    (folder / "image_class_labels.txt").write_text("".join(f"{row[0]} {row[2]}\n" for row in rows))
    (folder / "train_test_split.txt").write_text("".join(f"{row[0]} {row[3]}\n" for row in rows))
    (folder / "classes.txt").write_text("1 001.Albatross\n2 002.Wren\n")
    assert available_splits("cub", tmp_path) == ["train", "test"]
    test = open_dataset("cub", "test", tmp_path)
    assert test.labels.tolist() == [0, 1] and test.classes == ("001.Albatross", "002.Wren")
    assert test.read(1)[0, 0, 0] == 3
    assert open_dataset("cub", "train", tmp_path).ids == ("001.Albatross/b.jpg",)
    (folder / "image_class_labels.txt").write_text("1 1\n2 1\n")
    with pytest.raises(DataError, match=r"images\.txt cannot be read"):
        open_dataset("cub", "test", tmp_path)
    (folder / "images.txt").write_text("1 ../../a.jpg\n")
    with pytest.raises(DataError, match="below"):
        open_dataset("cub", "test", tmp_path)


def test_cars(tmp_path):
    folder = tmp_path / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    for split, file in (("train", "cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        table = np.array([("00001.jpg", 1), ("00002.jpg", 196)], dtype=[("fname", object), ("class", int)])
        scipy.io.savemat(folder / "devkit" / file, {"annotations": table})
        for number in (1, 2):
            picture(folder / f"cars_{split}" / f"0000{number}.jpg", number)
    test = open_dataset("stanford-cars", "test", tmp_path)
    assert test.labels.tolist() == [0, 195] and test.read(1)[0, 0, 0] == 2
    assert open_dataset("stanford-cars:known", "train", tmp_path).labels.tolist() == [0, 97]


def test_aircraft(tmp_path):
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    data.mkdir(parents=True)
    (data / "variants.txt").write_text("A320\n707-320\nDC-3 (old)\n")
    (data / "images_variant_test.txt").write_text("0000001 A320\n0000002 DC-3 (old)\n")
    (data / "images_variant_trainval.txt").write_text("0000003 707-320\n")
    for number in (1, 2, 3):
        picture(data / "images" / f"000000{number}.jpg", number)
    test = open_dataset("aircraft", "test", tmp_path)
    assert test.classes == ("707-320", "A320", "DC-3 (old)") and test.labels.tolist() == [1, 2]
    assert open_dataset("aircraft", "train", tmp_path).labels.tolist() == [0]
    (data / "variants.txt").write_text("A320\n")
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset("aircraft", "test", tmp_path)


def test_sums_of_digits(tmp_path):
    folder = tmp_path / "sumnist"
    folder.mkdir()
    for split, digits in (
        ("train", [[5, 5, 5, 5], [9, 9, 2, 0]]),
        ("test", [[1, 2, 3, 4], [0, 2, 9, 9], [9, 9, 9, 9]]),
    ):
        pixels = np.arange(len(digits), dtype="f4")[:, None, None] * np.ones((1, 56, 56), "f4")
        np.savez(folder / f"x-{split}.npz", pixels)
        np.savez(folder / f"y-{split}.npz", np.array(digits))
        np.savez(folder / f"b-{split}.npz", np.zeros((len(digits), 4, 4)))
    assert available_splits("sumnist", tmp_path) == ["train", "test"]
    whole = open_dataset("sumnist", "test", tmp_path)
    assert whole.labels.tolist() == [1, 0, 1] and whole.classes == ("sum 20", "another sum")
    found = {kind: open_dataset(f"sumnist:{kind}", "test", tmp_path) for kind in ("known", "unknown")}
    assert {kind: [images.read(row)[0, 0] for row in range(len(images))] for kind, images in found.items()} == {
        "known": [1], "unknown": [0, 2],
    }  # fmt: skip
    assert len(open_dataset("sumnist:known", "train", tmp_path)) == 2
    assert not overlap("sumnist:known", "sumnist:unknown")
    with pytest.raises(UsageError, match="there are known and unknown"):
        open_dataset("sumnist:odd", "test", tmp_path)


@pytest.mark.parametrize("name", ["cub", "stanford-cars", "aircraft"])
def test_groups_of_classes_divide_the_set(name):
    entry = get_entry(name)
    groups = [
        selected_classes(name, group, entry.num_classes, entry.groups) for group in ("known", "easy", "hard")
    ]
    assert (np.sum(groups, 0) == 1).all()
    assert groups[0].sum() == entry.num_classes // 2
    assert not overlap(f"{name}:known", f"{name}:easy") and overlap(name, f"{name}:hard")
    assert suite(f"{name}-ssb") == [f"{name}:easy", f"{name}:hard"]


# --- medical sets ---------------------------------------------------------------------------------------


def test_lists_of_openmibood(tmp_path):
    picture(tmp_path / "midog" / "near" / "2" / "201" / "a.png", 9)
    lists = tmp_path / "benchmark_imglist" / "midog"
    lists.mkdir(parents=True)
    (lists / "test_midog_2.txt").write_text("near/2/201/a.png 2\n")
    (lists / "valid_midog_2.txt").write_text("near/2/201/a.png 1\n")
    assert open_dataset("midog-2", "val", tmp_path).labels.tolist() == [1]
    images = open_dataset("midog-2", None, tmp_path)
    assert images.labels.tolist() == [2] and images.read(0)[0, 0, 0] == 9
    picture(tmp_path / "midog" / "1a" / "b.png")
    with pytest.raises(DataError, match="midog is not in"):  # not every image below midog/
        open_dataset("midog", None, tmp_path)
    for name in ("midog-near", "midog-far", "midog-shifted", "phakir-near", "phakir-far", "phakir-shifted"):
        assert all(name.split("-")[0] in get_entry(member).lists for member in suite(name))


# --- known and unknown classes --------------------------------------------------------------------------


def labelled(classes=10, rows=400):
    labels = RNG.integers(classes, size=rows)
    return packed_set(
        np.zeros((rows, 2, 2), np.uint8), labels, name="x:y", classes=tuple("abcdefghij"[:classes])
    )


@pytest.mark.parametrize("seed", [0, 3])
def test_known_and_unknown_classes(seed):
    images = labelled()
    order = np.random.default_rng(seed).permutation(10)
    known = select_classes(images, f"known=6,seed={seed}")
    unknown = select_classes(images, f"unknown=3,seed={seed}")
    assert set(known.classes) == {"abcdefghij"[index] for index in order[:6]}
    assert set(unknown.classes) == {"abcdefghij"[index] for index in order[7:]}
    assert known.classes == tuple(sorted(known.classes)) and known.labels.max() == 5
    (note,) = known.notes
    assert note.startswith("6 of 10 classes: ") and all(
        f"{'abcdefghij'[index]} ({index})" in note for index in order[:6]
    )
    name = f"cifar10:known=6,seed={seed}"
    assert not overlap(name, f"cifar10:unknown=4,seed={seed}") and overlap(
        name, f"cifar10:unknown=5,seed={seed}"
    )
    assert overlap(name, "cifar10") and not overlap(name, "cifar100:unknown=4")


def test_a_seed_of_zero_is_the_default():
    assert (selected_classes("x", "known=2", 5) == selected_classes("x", "known=2,seed=0", 5)).all()


@pytest.mark.parametrize(
    "selector", ["known=0", "known=10", "known=a", "known=6,seed=", "kown=6", "known", "unknown=99"]
)
def test_wrong_selections(selector):
    with pytest.raises(UsageError):
        select_classes(labelled(), selector)


def test_an_open_set_experiment(featood, toy_images):
    code, out, err = featood(
        "extract", "--backbone", "cifar-resnet20", "--weights", "random", "--dataset", "toy:known=2,seed=1"
    )
    kept = sorted(np.random.default_rng(1).permutation(3)[:2].tolist())
    assert code == 0 and f"2 of 3 classes: {kept[0]} ({kept[0]}), {kept[1]} ({kept[1]})" in err
    assert "logits 2" in out
    code, out, err = featood("score", "--head", "energy", "--ood", "toy:unknown=1,seed=1")
    assert code == 0, err
    assert "unknown=1" in out


# --- downloads ------------------------------------------------------------------------------------------
