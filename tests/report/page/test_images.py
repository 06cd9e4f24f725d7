"""The section with images, masks and score maps."""

import base64
import io
import re

import numpy as np
import pytest
from pages import HOSTILE, Page, row
from PIL import Image
from sklearn.metrics import roc_auc_score

from featood.metrics.dense import IGNORED, OUTLIER
from featood.report import scored_images, write_report
from featood.report.page.images import HEADS, IMAGES, SIDE

SIZE = (300, 400)


def drawn(count=12, heads=("good", "poor"), size=SIZE):
    """Masks with a square, except 1 and 4, and maps that tell it, the better the lower the number of the image."""
    rng = np.random.default_rng(0)
    masks, maps = [], {head: [] for head in heads}
    for number in range(count):
        mask = np.zeros(size, int)
        if number not in (1, 4):
            mask[10:60, 20:90] = OUTLIER
        mask[-20:] = IGNORED
        masks.append(mask)
        for place, head in enumerate(heads):
            maps[head].append(
                ((mask == OUTLIER) / (1 + number + place) + rng.normal(0, 0.3, size)).astype("f4")
            )
    return masks, maps


def pixels(picture):
    return np.array(Image.open(io.BytesIO(base64.b64decode(picture))))


def read(number):
    return np.full(SIZE, 10 * number, np.uint8)


def test_the_worst_and_the_best_images_are_chosen_by_their_own_auroc():
    masks, maps = drawn()
    ids = [f"{number}.png" for number in range(len(masks))]
    found = scored_images(maps, masks, ids, read)
    expected = {
        ids[number]: roc_auc_score(mask[mask != IGNORED] == OUTLIER, scores[mask != IGNORED])
        for number, (mask, scores) in enumerate(zip(masks, maps["good"], strict=True))
        if (mask == OUTLIER).any()
    }
    order = sorted(expected, key=expected.get)
    assert found.ranked == 10
    assert [one.name for one in found.groups["worst"]] == order[:IMAGES]
    assert [one.name for one in found.groups["best"]] == order[: -IMAGES - 1 : -1]
    for one in (*found.groups["worst"], *found.groups["best"]):
        assert one.auroc == pytest.approx(expected[one.name])


def test_pictures_are_small_and_have_the_colours_of_the_scale():
    masks, maps = drawn(2)
    maps["good"][0][:] = np.where(masks[0] == OUTLIER, 5.0, -1.0)
    maps["good"][1][:] = -1.0
    found = scored_images(maps, masks, ["a", "b"], read)
    ((best,),) = found.groups.values()
    image, mask, good, poor = map(pixels, best.pictures)
    assert all(max(one.shape[:2]) == SIDE for one in (image, mask, good, poor))
    inside, outside, ignored = (
        (slice(12, 32), slice(18, 50)),
        (slice(60, 150), slice(70, 230)),
        (slice(170, 179),),
    )
    assert (
        mask[inside].min() > 250
        and mask[outside].max() < 5
        and abs(mask[ignored].astype(int) - 128).max() < 8
    )
    assert (found.maps[0].low, found.maps[0].high) == (-1, 5)
    ramp = pixels(found.ramp).astype(int)
    assert ramp.shape == (1, SIDE, 3)
    assert abs(good[inside].mean((0, 1)) - ramp[0, -1]).max() < 12
    assert abs(good[outside].mean((0, 1)) - ramp[0, 0]).max() < 12


def test_few_images_are_shown_once_and_none_without_both_kinds_of_pixels():
    masks, maps = drawn(4)
    found = scored_images(maps, masks, list("abcd"), read)
    assert [len(rows) for rows in found.groups.values()] == [2, 1]
    assert scored_images(maps, [np.zeros(SIZE, int)] * 4, list("abcd"), read) is None


def page(tmp_path, heads, ids, count=12):
    masks, maps = drawn(count, heads, (60, 80))
    images = scored_images(maps, masks, ids, lambda number: np.full((60, 80, 3), number, np.uint8))
    parts = {"siou": 0.25, "ppv": None, "f1": 0.125, "pro": 0.5, "image_auroc": None}
    rows = [row(head, "out-of-distribution pixels", 0.9, **parts) for head in heads]
    results = {
        "backbone": "net", "fingerprint": "0123", "id": {"dataset": "scenes", "split": "test", "n": 9}, "rows": rows,
    }  # fmt: skip
    write_report(tmp_path / "report.html", results, {}, images=images)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_shows_them_with_names_as_text(tmp_path):
    heads = (*HOSTILE[:2], "c", "d", "e", "f")
    html = page(tmp_path, heads, HOSTILE * 2)
    parsed = Page(html)
    assert not [tag for tag in parsed.tags if tag == "script"][2:]
    assert "the 4 best of 6 heads" in re.sub(r"\s+", " ", parsed.text)
    pictures = re.findall(r'<td><img src="data:image/webp;base64,([^"]+)"', html)
    assert len(pictures) == 2 * IMAGES * (2 + HEADS)
    assert all(pixels(picture).ndim == 3 for picture in pictures)
    assert "25.00" in html and "12.50" in html
    assert 'href="#images"' in html


def test_the_page_is_small(tmp_path):
    few = len(page(tmp_path, ("a", "b"), [str(number) for number in range(12)]))
    many = len(page(tmp_path, ("a", "b"), [str(number) for number in range(40)], 40))
    assert abs(many - few) < 0.1 * few
    assert many < 400_000


def test_other_reports_have_no_such_section(tmp_path):
    results = {
        "backbone": "net",
        "fingerprint": "0",
        "id": {"dataset": "a", "n": 1},
        "rows": [row("msp", "b")],
    }
    write_report(tmp_path / "report.html", results, {})
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="images"' not in html and 'id="components"' not in html
