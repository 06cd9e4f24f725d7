import numpy as np
import pytest
from PIL import Image

from featood.data.masked.layouts import LAYOUTS, open_masked
from featood.errors import DataError, UsageError
from featood.metrics.dense import IGNORED, OUTLIER

SIZE = (6, 9)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def image(path, seed=0):
    write(path, np.random.default_rng(seed).integers(0, 255, (*SIZE, 3)))


def mask(path, *corner):
    """A mask of the first value, with the others in the first row."""
    values = np.full(SIZE, corner[0])
    values[0, : len(corner) - 1] = corner[1:]
    write(path, values)


def test_mvtec(tmp_path):
    place = tmp_path / "mvtec_anomaly_detection" / "bottle"
    for number in range(3):
        image(place / f"train/good/{number:03d}.png", number)
    image(place / "test/good/000.png")
    image(place / "test/broken/000.png", 7)
    mask(place / "ground_truth/broken/000_mask.png", 0, 255, 255)
    image(tmp_path / "mvtec_anomaly_detection/cable/train/good/000.png")
    train = open_masked("mvtec-ad:bottle", "train", tmp_path)
    assert train.images.ids == ("train/good/000.png", "train/good/001.png", "train/good/002.png")
    assert (train.mask(0, SIZE) == 0).all() and not train.meaning.by_class
    test = open_masked("mvtec-ad:bottle", "test", tmp_path)
    assert test.images.ids == ("test/broken/000.png", "test/good/000.png")
    assert np.flatnonzero(test.mask(0, SIZE) == OUTLIER).tolist() == [0, 1]
    assert (test.mask(1, SIZE) == 0).all()
    assert test.images.read(0).shape == (*SIZE, 3)
    with pytest.raises(UsageError, match="mvtec-ad:bottle"):
        open_masked("mvtec-ad", "train", tmp_path)
    with pytest.raises(DataError, match=r"no images of the split train of MVTec AD; get them from https"):
        open_masked("mvtec-ad:screw", "train", tmp_path)


PLACES = {
    "street-hazards": ("test/images/test/t5/300.png", "test/annotations/test/t5/300.png", (1, 14, 13), 13),
    "lost-and-found": (
        "leftImg8bit/test/04_Weg/04_Weg_000_030_leftImg8bit.png",
        "gtCoarse/test/04_Weg/04_Weg_000_030_gtCoarse_labelIds.png",
        (1, 7, 0),
        0,
    ),
    "fishyscapes": (
        "leftImg8bit/train/04_Weg/04_Weg_000_030_leftImg8bit.png",
        "fishyscapes_lostandfound/0007_04_Weg_000_030_labels.png",
        (0, 1, 255),
        0,
    ),
    "road-anomaly": ("frames/animals.jpg", "frames/animals.labels/labels_semantic.png", (0, 2, 0), 0),
    "road-anomaly21": (
        "images/validation0000.jpg",
        "labels_masks/validation0000_labels_semantic.png",
        (0, 1, 255),
        0,
    ),
    "road-obstacle21": (
        "images/validation_1.webp",
        "labels_masks/validation_1_labels_semantic.png",
        (0, 1, 255),
        0,
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_road_scenes(tmp_path, name):
    picture, labels, values, _ = PLACES[name]
    for folder in (name, *LAYOUTS[name].folders):
        root = tmp_path / folder
        place = root / folder
        image(place / picture)
        mask(place / labels, *values)
        masked = open_masked(name, "test", root)
        assert masked.images.ids == (picture,) and masked.masks == (labels,)
        found = masked.mask(0, SIZE)
        assert found[0, 0] == OUTLIER and found[5, 5] == 0
        expected = {13: 12, 0: IGNORED if name == "lost-and-found" else 0, 255: IGNORED}[values[2]]
        assert found[0, 1] == expected
        assert any("small files" in note for note in masked.images.notes)
    assert set(PLACES) | {"mvtec-ad"} == set(LAYOUTS)


def test_images_without_a_mask_are_left_out_and_counted(tmp_path):
    place = tmp_path / "dataset_AnomalyTrack"
    for name in ("validation0000", "airplane0000"):
        image(place / f"images/{name}.jpg")
    mask(place / "labels_masks/validation0000_labels_semantic.png", 0, 1)
    masked = open_masked("road-anomaly21", "test", tmp_path)
    assert masked.images.ids == ("images/validation0000.jpg",)
    assert "images without a mask are left out: 1" in masked.images.notes
    mask(place / "labels_masks/missing_labels_semantic.png", 0, 1)
    masked = open_masked("road-anomaly21", "test", tmp_path)
    assert masked.images.ids == ("images/validation0000.jpg",)
    assert "masks without an image are left out: 1" in masked.images.notes
    image(place / "images/validation0000.png")
    with pytest.raises(
        DataError, match=r"images/validation0000\.jpg and images/validation0000\.png are files of the"
    ):
        open_masked("road-anomaly21", "test", tmp_path)


def test_a_folder(tmp_path):
    for number in range(2):
        image(tmp_path / f"scenes/train/images/{number}.jpg", number)
        mask(tmp_path / f"scenes/train/masks/{number}.png", number, 254, 255)
    masked = open_masked(str(tmp_path / "scenes"), "train")
    assert masked.images.ids == ("train/images/0.jpg", "train/images/1.jpg") and masked.meaning.by_class
    assert masked.mask(1, SIZE)[0, :3].tolist() == [OUTLIER, IGNORED, 1]
    before = masked.digest()
    mask(tmp_path / "scenes/train/masks/1.png", 2, 254, 255)
    assert masked.digest() != before


def test_the_help_of_the_command_names_every_set():
    from featood.cli.dense import extract

    (text,) = (option.help for option in extract.params if option.name == "dataset")
    assert all(name in text for name in LAYOUTS)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"no set of images with masks 'cifar10'.*\./scenes"):
        open_masked("cifar10", "test", tmp_path)
    image(tmp_path / "road-anomaly/frames/a.jpg")
    mask(tmp_path / "road-anomaly/frames/a.labels/labels_semantic.png", 0, 3)
    masked = open_masked("road-anomaly", "test", tmp_path)
    with pytest.raises(DataError, match=r"labels_semantic.png has the value 3, which has no meaning"):
        masked.mask(0, SIZE)
    with pytest.raises(DataError, match=r"has \(6, 9\) pixels, but its image frames/a.jpg has \(4, 4\)"):
        masked.mask(0, (4, 4))
    write(tmp_path / "road-anomaly/frames/a.labels/labels_semantic.png", np.zeros((*SIZE, 3)))
    with pytest.raises(DataError, match="one channel of 8 bits, not RGB"):
        masked.mask(0, SIZE)
    with pytest.raises(DataError, match="no split 'train', only test"):
        open_masked("road-anomaly", "train", tmp_path)
