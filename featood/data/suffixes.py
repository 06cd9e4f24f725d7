"""Suffixes of image files, by which lists of images are told from other files of text."""

from __future__ import annotations

__all__ = ["IMAGE_FORMATS", "IMAGE_SUFFIXES"]

from PIL import features

# Other formats are excluded; Pillow's EPS reader, for example, starts another program.
IMAGE_FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
}
for _format, _feature, _suffixes in (  # optional parts of Pillow
    ("WEBP", "webp", (".webp",)),
    ("JPEG2000", "jpg_2000", (".jp2", ".jpx", ".jpf", ".j2k", ".j2c", ".jpc", ".jpeg2000")),
    ("AVIF", "avif", (".avif",)),
):
    if _feature in {*features.modules, *features.codecs} and features.check(_feature):
        IMAGE_FORMATS[_format] = _suffixes
IMAGE_SUFFIXES = frozenset(suffix for suffixes in IMAGE_FORMATS.values() for suffix in suffixes)
