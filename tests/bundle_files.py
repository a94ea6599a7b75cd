"""Bundles for tests: a small whole one, and files that are sealed as anybody can who knows the format."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import Iterable

import numpy as np

from edgeseg.bundle import Bundle, Golden, GraphEntry
from edgeseg.ranges import Ranges
from edgeseg.recipes import Fp32
from edgeseg.report_data import Report
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(("road", "car"), ((1, 2, 3), (4, 5, 6)), (32, 48))


def small_bundle(spec: ModelSpec = SPEC, onnx: bytes = b"onnx" * 5, frames: int = 1) -> Bundle:
    """A bundle with everything that one can have; what should be a graph is not looked at."""
    size = (frames, *spec.size_hw)
    pictures = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Bundle(
        spec=spec,
        graphs={"fp32": GraphEntry(onnx, Fp32())},
        ranges=Ranges({"x": (0.0, 1.0)}, {"x": (0.5,)}, "minmax", 16, "g", "d", "test"),
        golden=Golden(pictures, np.zeros(size, np.uint8), np.ones(size, np.uint8)),
        report=Report(evaluation_data="a test"),
        provenance={"note": "made by a test"},
        page="<!doctype html><p>0.7 ± 0.1</p>",
        drift=b"probe",
    )


def entries_of(file: Path | bytes) -> dict[str, bytes]:
    """What is in an archive, by name, in its order."""
    with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def sealed(data: bytes) -> bytes:
    """The same bytes, sealed anew."""
    return data[:-64] + hashlib.sha256(data[:-64]).hexdigest().encode()


def packed(entries: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A sealed archive of these entries, which may have one name twice."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, compression)
        archive.comment = b"0" * 64
    return sealed(buffer.getvalue())
