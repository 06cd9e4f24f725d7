import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from featood.data import ImageSet, packed_set
from featood.data.reading import read_image
from featood.errors import DataError


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)


def test_rgb_and_grey_come_back_bit_for_bit(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), rgb[..., 0])
    assert read_image(tmp_path / "a.png").flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, rgb, orientation):
    upright = rgb
    stored = {  # how a camera in each orientation lays out the same upright scene
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), upright)


def test_palette_with_alpha_becomes_the_colours_of_the_palette(tmp_path, recwarn):
    index = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)
    image = Image.frombytes("P", (4, 3), index.tobytes())
    image.putpalette(colours.ravel().tolist())
    image.save(tmp_path / "x.png", transparency=bytes([0, 128, 255, 255]))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), colours[index])
    assert not recwarn.list


def test_other_modes(tmp_path, rgb):
    Image.fromarray(np.dstack([rgb, rgb[..., :1]])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgb)
    Image.fromarray(rgb[..., :2].copy()).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), rgb[..., 0])
    Image.fromarray(rgb[..., 0] > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png"), np.where(rgb[..., 0] > 127, 255, 0))
    Image.fromarray(np.full((2, 2, 3), 77, np.uint8)).save(tmp_path / "x.gif")
    np.testing.assert_array_equal(np.unique(read_image(tmp_path / "x.gif")), [77])
    Image.fromarray(rgb[:1, :1]).save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png").shape == (1, 1, 3)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    pixels = read_image(tmp_path / "x.jpg")
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() < 8


def test_16_bit_grey_is_scaled_to_8(tmp_path):
    deep = np.array([[0, 257, 128 * 257], [65535, 300, 40000]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), [[0, 1, 128], [255, 1, 156]])


@pytest.mark.parametrize("name", ["empty.png", "text.png", "short.jpg", "gone.png", "page.jpg", "float.tif"])
def test_bad_files_give_one_line_that_names_them(tmp_path, rgb, name):
    path = tmp_path / name
    if name == "empty.png":
        path.write_bytes(b"")
    elif name == "text.png":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 9)
    elif name == "short.jpg":
        Image.fromarray(np.tile(rgb, (20, 20, 1))).save(path)
        path.write_bytes(path.read_bytes()[:-900])
    elif name == "page.jpg":
        path.write_text("<html>quota exceeded</html>")
    elif name == "float.tif":
        Image.fromarray(np.zeros((2, 2), np.float32)).save(path)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bomb_is_refused_from_its_header(tmp_path, side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(DataError, match=r"bomb\.png.*pixels"):
        read_image(tmp_path / "bomb.png")


def test_programs_are_never_started_for_a_file(tmp_path):
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DataError):
        read_image(tmp_path / "x.png")


def test_packed_set_rows_ids_and_subset():
    images = np.arange(12 * 4 * 4, dtype=np.uint8).reshape(12, 4, 4, 1)
    packed = packed_set(images, np.arange(12, dtype=np.int32) % 3, name="x")
    assert len(packed) == 12
    assert packed.ids[0] == "00"
    assert packed.labels.dtype == np.int64
    assert packed.read(3).shape == (4, 4)
    some = packed.subset([7, 2])
    assert some.ids == ("07", "02")
    assert some.labels.tolist() == [1, 2]
    np.testing.assert_array_equal(some.read(0), images[7, ..., 0])
    assert packed.subset(packed.labels == 1).ids == ("01", "04", "07", "10")


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), None, "uint8"),
        (np.zeros((2, 3, 4, 4), np.uint8), None, "shape"),
        (np.zeros((2, 16), np.uint8), None, "shape"),
        (np.zeros((2, 0, 4), np.uint8), None, "shape"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(3, int), "labels"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros((2, 1), int), "labels"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2), "integer"),
        (np.zeros((2, 4, 4), np.uint8), np.array(["a", "b"]), "integer"),
    ],
)
def test_packed_set_refuses_what_does_not_fit(images, labels, says):
    with pytest.raises(DataError, match=says):
        packed_set(images, labels)


def test_a_set_is_packed_or_files():
    with pytest.raises(DataError):
        ImageSet(ids=("a",))


def test_digest_sees_pixels_labels_names_and_sizes(tmp_path):
    images, labels = np.zeros((3, 2, 2), np.uint8), np.arange(3)
    base = packed_set(images, labels)
    other = images.copy()
    other[2, 1, 1] = 1
    digests = {
        base.digest(),
        packed_set(other, labels).digest(),
        packed_set(images, labels[::-1].copy()).digest(),
        packed_set(images).digest(),
        packed_set(images.reshape(3, 1, 4), labels).digest(),
        base.subset([0, 1]).digest(),
    }
    assert len(digests) == 6
    assert packed_set(images.copy(), labels, name="y", split="z").digest() == base.digest()

    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"12")
    files = ImageSet(ids=("a", "b"), root=tmp_path)
    before = files.digest()
    assert before != ImageSet(ids=("a\0b",), root=tmp_path, labels=None).subset([]).digest()
    (tmp_path / "b").write_bytes(b"123")
    assert files.digest() != before
    (tmp_path / "b").unlink()
    gone = files.digest()
    assert gone != before, "a missing file is found out when it is read; the digest only has to differ"
    with pytest.raises(DataError, match="b is missing"):
        files.read(1)


def test_sets_travel_to_workers(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    for images in (ImageSet(ids=("a.png",), root=tmp_path, name="x"), packed_set(rgb[None], np.array([4]))):
        copy = pickle.loads(pickle.dumps(images))
        np.testing.assert_array_equal(copy.read(0), rgb)
        assert (copy.name, copy.ids, copy.digest()) == (images.name, images.ids, images.digest())
    assert len(repr(images)) < 200
