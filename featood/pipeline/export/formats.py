"""File formats of exported graphs: ONNX, and the archives of ``torch.export``."""

from __future__ import annotations

__all__ = ["FORMATS", "Format", "format_of"]

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.export import ExportedProgram

from featood.errors import MissingPackage, UsageError

METADATA = "featood.json"
"""Name of the metadata in an archive of ``torch.export``, and their key in an ONNX model."""
LARGEST = (1 << 31) - 1
"""Most bytes of an ONNX model, which is one protobuf message."""

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A loaded graph: from its inputs to its outputs, in order."""


class Format(NamedTuple):
    """How a traced module becomes a file, and how the file is run."""

    encode: Callable[[str, ExportedProgram, Sequence[str], Sequence[str], Mapping[str, object]], bytes]
    """From the name of what is exported, the module, the names of inputs and outputs, and metadata."""
    load: Callable[[bytes], Run]
    """From the content of a file, in the runtime that it is made for."""


def format_of(path: Path) -> Format:
    """Return the format of a file by its suffix.

    Raises
    ------
    UsageError
        If it is none of ``FORMATS``.
    MissingPackage
        If its packages are not installed.
    """
    if path.suffix not in FORMATS:
        raise UsageError(
            f"the format of {path} is not known; name a file that ends in {' or '.join(FORMATS)}"
        )
    if path.suffix == ".onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise MissingPackage(
                f"ONNX files need the package {error.name}: pip install 'featood[onnx]'; .pt2 files need none"
            ) from None
    return FORMATS[path.suffix]


def _encode_onnx(
    name: str,
    program: ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: Mapping[str, object],
) -> bytes:
    from torch.onnx import OnnxExporterError

    from featood.pipeline.export.operators import translations

    quiet = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in quiet]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in quiet:
            logger.setLevel(logging.ERROR)
        try:
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=list(inputs), output_names=list(outputs),
                custom_translation_table=translations(),
            )  # fmt: skip
        except OnnxExporterError as error:
            raise UsageError(
                f"{name} cannot be exported to ONNX: {_missing_operator(error)}; a .pt2 file can hold it"
            ) from error
        finally:
            for logger, level in zip(quiet, levels, strict=True):
                logger.setLevel(level)
    assert made is not None
    model = made.model_proto
    model.producer_name = "featood"
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(metadata)
    if model.ByteSize() > LARGEST:
        raise UsageError(f"{name} takes more than 2 GiB, the limit of an ONNX file; write a .pt2 file")
    return model.SerializeToString()


def _missing_operator(error: BaseException) -> str:
    """Return what the exporter lacks, from the first cause of its error."""
    while error.__cause__ is not None:
        error = error.__cause__
    found = re.search(r"op='([\w.]+)'", str(error))
    return f"ONNX has no operator {found[1]}" if found else str(error).partition("\n")[0]


def _load_onnx(content: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return lambda values: list(session.run(None, dict(zip(names, values, strict=True))))


def _encode_pt2(
    name: str,
    program: ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: Mapping[str, object],
) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _load_pt2(content: bytes) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(io.BytesIO(content)).module()

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            found = module(*map(torch.from_numpy, values))
        return [part.numpy() for part in (found if isinstance(found, tuple) else (found,))]

    return run


FORMATS: Mapping[str, Format] = {
    ".onnx": Format(_encode_onnx, _load_onnx),
    ".pt2": Format(_encode_pt2, _load_pt2),
}
