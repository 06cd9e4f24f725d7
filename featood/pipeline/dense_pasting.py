"""Writing of images with pasted objects as a folder of images and masks."""

from __future__ import annotations

__all__ = ["write_pasted"]

import dataclasses
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from featood.cache.feature_cache import slug
from featood.data.masked.pasting import PastedSet
from featood.errors import UsageError
from featood.files import children, create, scratch_folder
from featood.metrics.dense import IGNORED, OUTLIER
from featood.reporter import SILENT, Reporter

RECORD = "paste.json"
VALUES = {OUTLIER: 254, IGNORED: 255}
"""Values in the masks of a folder, see :data:`featood.data.masked.layouts.FOLDER`."""


def write_pasted(pasted: PastedSet, folder: str | Path, reporter: Reporter = SILENT) -> Path:
    """Write ``SPLIT/images/`` and ``SPLIT/masks/`` to a folder, which then is a set of images with masks.

    The split appears when it is complete. Its file ``paste.json`` has all settings, and the annotations pasted into
    each image.

    Parameters
    ----------
    pasted : PastedSet
        The images; the label of their objects is `OUTLIER`.
    folder : path
        Where the split is written.
    reporter : Reporter
        Receives notes, and the progress.

    Returns
    -------
    Path
        The folder of the split.

    Raises
    ------
    UsageError
        If the folder already has this split.
    """
    images, objects = pasted.masked.images, pasted.objects
    target = Path(folder, images.split)
    if children(target):
        raise UsageError(f"{target} exists; choose another folder, or remove it")
    for note in (*images.notes, *objects.notes):
        reporter.line(note)
    if not pasted.masked.meaning.by_class:
        reporter.line(
            f"the masks of {images.name} have no classes: all in-distribution pixels become class 0"
        )
    record: dict[str, Any] = {
        "dataset": images.name,
        "split": images.split,
        "inputs_sha256": pasted.masked.digest(),
        "annotations": objects.annotations.name,
        "annotations_sha256": objects.sha256,
        "options": dataclasses.asdict(pasted.options),
        "pasted": {},
    }
    with scratch_folder(target) as scratch:
        for number in range(len(pasted)):
            image, mask = pasted[number]
            name = f"{number:06d}-{slug(PurePosixPath(images.ids[number]).stem)}.png"
            record["pasted"][name] = [objects.objects[one][0] for one in pasted.drawn(number)]
            stored = np.select([mask == value for value in VALUES], list(VALUES.values()), mask).astype(
                np.uint8
            )
            for kind, values in (("images", image), ("masks", stored)):
                with create(scratch / kind / name) as file:
                    Image.fromarray(values).save(file, "PNG")
            reporter.progress("pasting", number + 1, len(pasted))
        with create(scratch / RECORD) as file:
            file.write(json.dumps(record, indent=1).encode())
    return target
