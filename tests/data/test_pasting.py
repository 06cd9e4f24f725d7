"""Objects of COCO files, and their pasting into images with masks."""

import json

import numpy as np
import pytest
from PIL import Image

from featood.data.masked.coco import open_coco, polygon_mask, run_length_mask
from featood.data.masked.layouts import open_masked
from featood.data.masked.pasting import PastedSet, PasteOptions, paste
from featood.errors import DataError, UsageError
from featood.metrics.dense import OUTLIER

SIZE = (40, 60)
RECTANGLE = [10, 5, 30, 5, 30, 25, 10, 25]


def ellipse():
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return ((y - 18) ** 2 / 90 + (x - 33) ** 2 / 300 < 1) | ((y > 30) & (x < 9))


def counts_of(mask):
    """Run lengths in columns, counted one pixel after the other."""
    lengths, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


@pytest.fixture
def coco(tmp_path):
    """Three images of flat colours, with a polygon, run lengths, their text, a crowd and a small object."""
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/val2017").mkdir()
    for number in range(3):
        Image.new("RGB", SIZE[::-1], (50 * number, 100, 200)).save(tmp_path / f"coco/val2017/{number}.png")
    segmentations = [
        [RECTANGLE], {"size": SIZE, "counts": counts_of(ellipse())}, {"size": SIZE, "counts": TEXT},
        {"size": SIZE, "counts": counts_of(ellipse())}, [[1, 1, 3, 1, 3, 3]],
    ]  # fmt: skip
    record = {
        "images": [
            {"id": n + 1, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(3)
        ],
        "annotations": [
            {
                "id": n, "image_id": n % 3 + 1, "category_id": 1 + n % 2, "segmentation": one,
                "iscrowd": int(n == 3), "area": 3 if n == 4 else 400,
            }
            for n, one in enumerate(segmentations)
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "kite"}],
    }  # fmt: skip
    path = tmp_path / "coco/annotations/instances_val2017.json"
    path.write_text(json.dumps(record))
    return path


TEXT = "o09o0000000000000000Z8JjG4M2N2N2O0O2O0O2O00000O2O00000000000000000001N1000001N101N101N2N2N3Li:"
"""The ellipse as pycocotools 2.0.11 writes it."""


def test_run_lengths_and_their_text_are_those_of_pycocotools():
    np.testing.assert_array_equal(run_length_mask(TEXT, SIZE), ellipse())
    np.testing.assert_array_equal(run_length_mask(counts_of(ellipse()), SIZE), ellipse())
    noise = np.random.default_rng(0).random((7, 5)) < 0.3
    np.testing.assert_array_equal(run_length_mask("322OO0001031L09", (7, 5)), noise)
    np.testing.assert_array_equal(run_length_mask(counts_of(noise), (7, 5)), noise)


def inside(x, y, polygon):
    """Whether a point is in a polygon, by the sum of the angles to its corners."""
    corners = np.array(polygon).reshape(-1, 2) - [x, y]
    angles = np.diff(np.arctan2(corners[:, 1], corners[:, 0]), append=np.arctan2(*corners[0, ::-1]))
    return round(float(((angles + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi))) % 2 == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_polygon_has_the_pixels_whose_centres_are_inside(seed):
    rng = np.random.default_rng(seed)
    polygons = [(rng.random(2 * n) * 30 - 3).tolist() for n in (3, 5, 7)]
    found = polygon_mask(polygons, (20, 26))
    for y in range(20):
        for x in range(26):
            assert found[y, x] == any(inside(x + 0.5, y + 0.5, one) for one in polygons)
    assert polygon_mask([RECTANGLE], SIZE).sum() == 20 * 20


def test_objects_are_cut_out(coco):
    objects = open_coco(coco)
    assert len(objects) == 3
    assert objects.notes == (
        "annotations of crowds are left out: 1", "objects of fewer than 100 pixels are left out: 1",
    )  # fmt: skip
    assert objects[0].mask.shape == (20, 20) and objects[0].mask.all() and objects[0].category == "dog"
    for number in (1, 2):
        assert objects[number].mask.sum() == ellipse().sum()
        assert (objects[number].pixels == [50 * number, 100, 200]).all()
    assert [objects[i].category for i in range(len(objects))] == ["dog", "kite", "dog"]
    assert len(open_coco(coco, exclude=["dog"])) == 1
    assert len(open_coco(coco, smallest=0)) == 4
    with pytest.raises(UsageError, match="no category 'cat', only dog, kite"):
        open_coco(coco, exclude=["cat"])


def scenes(folder, count=6):
    for number in range(count):
        for kind, values in (("images", np.full((50, 80, 3), 10)), ("masks", np.full((50, 80), number % 3))):
            path = folder / "scenes/train" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
    return open_masked(str(folder / "scenes"), "train")


def test_only_the_pixels_of_the_object_change(coco, tmp_path):
    masked, objects = scenes(tmp_path), open_coco(coco)
    options = PasteOptions(most=3, size=(0.2, 0.4), rows=(0.5, 1.0), label=-7, seed=5)
    pasted = PastedSet(masked, objects, options)
    assert len(pasted) == 6
    for number in range(6):
        image, mask = pasted[number]
        changed = mask == -7
        assert changed.any() and (mask[~changed] == number % 3).all() and (image[~changed] == 10).all()
        assert (image[changed][:, 1] == 100).all()  # no object has pixels of its surroundings
        rows = np.flatnonzero(changed.any(1))
        assert rows.min() >= 25 - 10 and changed.sum() <= 3 * 20 * 20
        assert 1 <= len(pasted.drawn(number)) <= 3
    one, other = PastedSet(masked, objects, options)[3], pasted[3]
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    again = PastedSet(
        masked, objects, PasteOptions(most=3, size=(0.2, 0.4), rows=(0.5, 1.0), label=-7, seed=6)
    )
    assert any((again[number][1] != pasted[number][1]).any() for number in range(6))
    assert (masked.mask(3) == 0).all()


def test_sizes_and_shares_are_those_of_the_options(coco, tmp_path):
    objects, rng = open_coco(coco), np.random.default_rng(0)
    image, mask = np.zeros((50, 80, 3), np.uint8), np.zeros((50, 80), int)
    for _ in range(50):
        _, found = paste(image, mask, [objects[0]], PasteOptions(size=(0.4, 0.6)), rng)
        sides = [np.flatnonzero((found == OUTLIER).any(axis)) for axis in (0, 1)]
        assert len(sides[0]) == len(sides[1]) and 20 <= len(sides[0]) <= 30
    assert not mask.any()
    _, found = paste(image, mask, [objects[0]], PasteOptions(size=(1, 1)), rng)
    assert (found == OUTLIER).sum() == 50 * 50
    some = PastedSet(scenes(tmp_path, 40), objects, PasteOptions(share=0.5))
    assert 8 <= sum(bool(some.drawn(number)) for number in range(40)) <= 32
    assert not any(
        PastedSet(some.masked, objects, PasteOptions(share=0)).drawn(number) for number in range(40)
    )
    for wrong in ({"size": (0, 0.5)}, {"size": (0.5, 0.4)}, {"rows": (0, 1.5)}, {"share": 2}, {"most": 0}):
        with pytest.raises(UsageError):
            PasteOptions(**wrong)


@pytest.mark.parametrize(("change", "message"), [
    (lambda r: r["annotations"][0].update(segmentation=[[1, 2, 3]]), "annotation 0 has a polygon that is no list"),
    (lambda r: r["annotations"][0].update(segmentation=[["a"] * 6]), "annotation 0 has a wrong segmentation"),
    (lambda r: r["annotations"][0].update(segmentation=[[1, [2, 3]]]), "annotation 0 has a wrong segmentation"),
    (lambda r: r["annotations"][0].update(segmentation={"size": [40, 60]}), "annotation 0 has a wrong segmentation"),
    (lambda r: r["annotations"][0].update(segmentation={"size": [4, 6], "counts": [24]}), "run lengths for"),
    (lambda r: r["annotations"][0].update(segmentation={"size": SIZE, "counts": [5]}), "do not add up to 40 x 60"),
    (lambda r: r["annotations"][0].update(segmentation={"size": SIZE, "counts": [2405, -5]}), "do not add up"),
    (lambda r: r["annotations"][0].update(segmentation={"size": SIZE, "counts": "\x01"}), "other characters"),
    (lambda r: r["annotations"][0].update(segmentation={"size": SIZE, "counts": [2400]}), "has no pixels"),
    (lambda r: r["annotations"][0].update(segmentation=[]), "has no pixels"),
    (lambda r: r["annotations"][0].update(segmentation="x"), r"annotations\[0\].segmentation .*give annotations"),
    (lambda r: r["annotations"][0].update(image_id=9), "annotation 0 has the image_id 9, which is not in the file"),
    (lambda r: r["annotations"][0].update(category_id=9), "annotation 0 has the category_id 9"),
    (lambda r: r["images"][0].update(file_name="../../x.png"), "is not inside a folder"),
    (lambda r: r["images"][0].update(file_name="/x.png"), "is not inside a folder"),
    (lambda r: r["images"][0].update(file_name="no.png"), "no.png cannot be read"),
    (lambda r: r["images"][0].update(height=41), r"0.png has \(40, 60\) pixels, but \(41, 60\)"),
    (lambda r: r["images"][0].update(height=10**9), "10{9} x 60 pixels"),
    (lambda r: r.pop("categories"), "categories is missing; give annotations of COCO"),
    (lambda r: r.update(annotations=[]), "has no objects to paste"),
])  # fmt: skip
def test_bad_annotations_are_named(coco, change, message):
    record = json.loads(coco.read_text())
    change(record)
    coco.write_text(json.dumps(record))
    with pytest.raises(DataError, match=message) as caught:
        open_coco(coco)[0]
    assert "\n" not in str(caught.value)


def test_bad_files_are_named(coco, tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        open_coco(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"no folder .*val2017x"):
        open_coco(coco.rename(coco.with_name("instances_val2017x.json")))
    assert len(open_coco(coco.with_name("instances_val2017x.json"), tmp_path / "coco/val2017")) == 3
    coco.write_text("{")
    with pytest.raises(DataError, match="is not JSON; give annotations of COCO"):
        open_coco(coco)


def test_the_command_writes_a_set(coco, tmp_path, featood):
    masked = scenes(tmp_path)
    words = ["dense", "paste", "--dataset", str(tmp_path / "scenes"), "--objects", str(coco), "--seed", "3"]
    code, out, err = featood(*words, "--out", str(tmp_path / "pasted"), "--exclude", "kite")
    assert code == 0 and "6 images, with some of 2 objects" in out, err
    assert "annotations of crowds are left out: 1" in err
    found = open_masked(str(tmp_path / "pasted"), "train")
    expected = PastedSet(masked, open_coco(coco, exclude=["kite"]), PasteOptions(seed=3))
    assert len(found) == 6
    for number in range(6):
        image, mask = expected[number]
        np.testing.assert_array_equal(found.images.read(number), image)
        np.testing.assert_array_equal(found.mask(number), mask)
    record = json.loads((tmp_path / "pasted/train/paste.json").read_text())
    assert record["options"]["seed"] == 3 and len(record["pasted"]) == 6
    assert {one for row in record["pasted"].values() for one in row} <= {0, 2}
    code, _, err = featood(*words, "--out", str(tmp_path / "pasted"))
    assert code == 2 and "exists; choose another folder" in err
    code, _, err = featood(*words, "--out", str(tmp_path / "p"), "--size", "0.1")
    assert code == 2 and "LOW,HIGH" in err
