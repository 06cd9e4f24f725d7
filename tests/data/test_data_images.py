import pickle
import struct
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featood.data import ImageSet, packed_set
from featood.data.images.reading import Decoding, likely_bits, read_image
from featood.data.suffixes import IMAGE_SUFFIXES
from featood.errors import DataError, UsageError


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)


def test_rgb_and_grey_are_bit_identical(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), rgb[..., 0])
    assert read_image(tmp_path / "a.png").flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, rgb, orientation):
    upright = rgb
    stored = {  # pixels stored by a camera in each orientation for the same upright scene
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
    stored = np.ascontiguousarray(stored)
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), upright)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", Decoding(upright=False)), stored)
    Image.fromarray(stored).save(tmp_path / "x.tif", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), upright)
    Image.fromarray(stored[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), upright[..., 0])


def test_orientation_is_applied_despite_broken_metadata(tmp_path, rgb):
    entries = struct.pack(">HHHIIHHIHHI", 2, 0x010F, 0, 6, 38, 0x0112, 3, 1, 6, 0, 0)  # the first has no type
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + entries + b"maker\0"
    Image.fromarray(rgb).save(tmp_path / "x.jpg", quality=100, exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (7, 5, 3)


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


def test_fewer_bits_in_16_are_scaled_as_stated(tmp_path):
    deep = np.array([[0, 1, 16], [4095, 300, 2048]], np.uint16)
    expected = np.rint(deep / 4095 * 255)
    for name in ("x.png", "x.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name, Decoding(bits=12)), expected)
        with pytest.raises(DataError, match=rf"{name}.*4095 needs more than the stated 10 bits"):
            read_image(tmp_path / name, Decoding(bits=10))
    for bits in (7, 17):
        with pytest.raises(UsageError, match="8 to 16"):
            Decoding(bits=bits)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_keeps_its_high_byte_or_is_scaled(tmp_path, script, channels):
    deep = np.random.default_rng(0).integers(0, 4096, (5, 7, channels)).astype(np.uint16)
    colour = deep[..., :1] if channels == 2 else deep[..., :3]
    path = tmp_path / "x.png"
    script("odd_images").write_deep_png(path, deep)
    shape = (5, 7, 3)
    np.testing.assert_array_equal(read_image(path), np.broadcast_to(colour >> 8, shape))
    expected = np.broadcast_to(np.rint(colour / 4095 * 255), shape)
    np.testing.assert_array_equal(read_image(path, Decoding(bits=12)), expected)


def write_tiff(path, values, *, order="<", photometric=2, bits=16, planar=1, packed=False, data=None):
    """Write uint16 [H, W] or [H, W, C] in TIFF layouts that Pillow cannot write."""
    height, width, channels = np.atleast_3d(values).shape
    planes = np.moveaxis(values, -1, 0) if planar == 2 else [values]
    strips = [data or plane.astype(order + "u2").tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    starts = np.cumsum([8, *map(len, strips)]).tolist()
    tags = {
        256: [width],
        257: [height],
        258: [bits] * channels,
        259: [8 if packed else 1],
        262: [photometric],
    }
    tags |= {
        273: starts[:-1],
        277: [channels],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [planar],
    }
    entries, tail, free = b"", b"", starts[-1] + 2 + 12 * len(tags) + 4
    for tag, numbers in tags.items():
        body = struct.pack(f"{order}{len(numbers)}I", *numbers)
        entries += struct.pack(order + "HHI", tag, 4, len(numbers))
        entries += body if len(body) == 4 else struct.pack(order + "I", free + len(tail))
        tail += body if len(body) > 4 else b""
    head = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    path.write_bytes(head + struct.pack(order + "I", starts[-1]) + b"".join(strips) + directory + tail)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_in_tiff(tmp_path, order, packed):
    deep = np.random.default_rng(0).integers(0, 4096, (6, 8, 3)).astype(np.uint16)
    path, twelve = tmp_path / "x.tif", Decoding(bits=12)
    write_tiff(path, deep, order=order, packed=packed)
    np.testing.assert_array_equal(read_image(path), deep >> 8)
    np.testing.assert_array_equal(read_image(path, twelve), np.rint(deep / 4095 * 255))
    write_tiff(path, deep, order=order, packed=packed, planar=2)
    with pytest.raises(DataError, match="convert to 8 bits"):  # misread by Pillow
        read_image(path, twelve)


def test_tiff_with_depth_and_photometric_tags(tmp_path):
    deep = np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)
    path = tmp_path / "x.tif"
    write_tiff(path, deep, photometric=0)  # white is zero
    np.testing.assert_array_equal(read_image(path, Decoding(bits=12)), np.rint((4095 - deep) / 4095 * 255))
    first, second = deep[:, ::2].astype(int), deep[:, 1::2].astype(int)
    triples = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    write_tiff(path, deep, photometric=1, bits=12, data=triples.tobytes())
    np.testing.assert_array_equal(read_image(path), np.rint(deep / 4095 * 255))
    assert likely_bits([path]) is None


def test_the_likely_depth_of_16_bit_images(tmp_path, script):
    paths = []
    for row in range(100):
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(np.full((2, 2), 3000 + row, np.uint16)).save(paths[-1])
    assert likely_bits(paths) == 12
    assert likely_bits(paths[:1]) == 12
    assert likely_bits([]) is None
    for highest, bits in ((0, None), (255, 8), (256, 10), (1024, 12), (16383, 14), (16384, None)):
        Image.fromarray(np.full((2, 2), highest, np.uint16)).save(tmp_path / "grey.png")
        script("odd_images").write_deep_png(tmp_path / "rgb.png", np.full((2, 2, 3), highest, np.uint16))
        assert likely_bits([tmp_path / "grey.png"]) == likely_bits([tmp_path / "rgb.png"]) == bits
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"")
    assert likely_bits([tmp_path / "plain.png", tmp_path / "broken.png"]) is None


def test_odd_files_are_decoded_as_by_the_loaders_of_timm_and_torchvision(tmp_path, script):
    paths = script("odd_images").write_odd_images(tmp_path, huge=400)
    assert len(paths) > 25
    for path in paths:
        if not path.name.startswith(("grey16", "grey12")):
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter("ignore")  # about palettes with alpha
                expected = np.asarray(image.convert("RGB"))
            pixels = Image.fromarray(read_image(path, Decoding(upright=False))).convert("RGB")
            np.testing.assert_array_equal(np.asarray(pixels), expected, path.name)


def test_files_are_decoded_by_content_not_by_suffix(tmp_path, rgb):
    for name in ("none", "x.jpg", "x.JFIF", "x.txt"):
        Image.fromarray(rgb).save(tmp_path / name, "PNG")
        np.testing.assert_array_equal(read_image(tmp_path / name), rgb)
    assert {".jpg", ".jfif", ".jpe", ".tif", ".webp"} <= IMAGE_SUFFIXES
    assert not {".eps", ".ps", ".pdf", ".svg", ".wmf", ".txt", ""} & IMAGE_SUFFIXES


@pytest.mark.parametrize("name", ["empty.png", "text.png", "short.jpg", "gone.png", "page.jpg", "float.tif"])
def test_bad_files_give_one_line_with_their_name(tmp_path, rgb, name):
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
def test_packed_set_refuses_inconsistent_arguments(images, labels, says):
    with pytest.raises(DataError, match=says):
        packed_set(images, labels)


def test_a_set_is_either_packed_or_files():
    with pytest.raises(DataError):
        ImageSet(ids=("a",))


def test_digest_depends_on_pixels_labels_names_and_sizes(tmp_path):
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
    assert gone != before, "a missing file is an error only when read; the digest must differ"
    with pytest.raises(DataError, match="b is missing"):
        files.read(1)


def test_non_default_decoding_changes_the_digest(tmp_path):
    deep = np.array([[4095, 0]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    plain = ImageSet(ids=("a.png",), root=tmp_path)
    chosen = replace(plain, decoding=Decoding(bits=12))
    assert replace(plain, decoding=Decoding()).digest() == plain.digest()
    assert (
        len({plain.digest(), chosen.digest(), replace(plain, decoding=Decoding(upright=False)).digest()}) == 3
    )
    np.testing.assert_array_equal(plain.read(0), [[16, 0]])
    np.testing.assert_array_equal(chosen.subset([0]).read(0), [[255, 0]])


def test_sets_are_sent_to_workers(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    for images in (ImageSet(ids=("a.png",), root=tmp_path, name="x"), packed_set(rgb[None], np.array([4]))):
        copy = pickle.loads(pickle.dumps(images))
        np.testing.assert_array_equal(copy.read(0), rgb)
        assert (copy.name, copy.ids, copy.digest()) == (images.name, images.ids, images.digest())
    assert len(repr(images)) < 200
