"""TensorRT's INT8 calibration cache as text: written for the TensorRT that will read it, read back, never pickled.

One header line ``TRT-<version>-<calibrator>``, then ``<tensor>: <8 hex digits>`` per tensor: the big-endian float32
scale, which is amax / 127. TensorRT up to 10.16 reads it when the network holds no Q/DQ nodes; 11 does not.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Mapping

from edgeseg.errors import CompileError
from edgeseg.ranges import Ranges

__all__ = ["CalibrationCache", "cache_from_ranges", "cache_from_text", "tensorrt_version_code", "text_from_cache"]

CALIBRATOR_CLASSES = ("EntropyCalibration2", "MinMaxCalibration")
_HEADER = re.compile(r"TRT-(\d{4,6})-([A-Za-z0-9]+)")
_HEX = re.compile(r"[0-9a-fA-F]{1,8}")
_LAST_VERSION_CODE = 110000


@dataclass(frozen=True)
class CalibrationCache:
    """A calibration cache.

    Attributes:
        version_code: of the TensorRT that reads it, e.g. 8502 for 8.5.2 and 100300 for 10.3.0.
        scales: tensor name -> amax / 127, exactly representable in float32.
        calibrator: class of calibrator that may read it.
    """

    version_code: int
    scales: Mapping[str, float]
    calibrator: str = CALIBRATOR_CLASSES[0]


def tensorrt_version_code(version: str) -> int:
    """``"8.5.2.2"`` -> 8502, ``"10.3.0"`` -> 100300: TensorRT's own integer form. Raises CompileError."""
    parts = version.split(".")
    if not 2 <= len(parts) <= 4 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise CompileError(f"a TensorRT version is MAJOR.MINOR.PATCH such as 8.5.2, got {version!r}")
    major, minor, patch = (int(part) for part in [*parts, "0"][:3])
    code = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    if code >= _LAST_VERSION_CODE:
        raise CompileError(f"TensorRT {version} has no calibration cache (removed in 11); use the Q/DQ graph")
    return code


def cache_from_ranges(ranges: Ranges, version: str, *, calibrator: str = CALIBRATOR_CLASSES[0]) -> CalibrationCache:
    """Return the symmetric scales of all ranges for a TensorRT version such as ``"8.5.2"``. Raises CompileError."""
    if calibrator not in CALIBRATOR_CLASSES:
        raise CompileError(f"no calibrator {calibrator!r}; TensorRT reads {' and '.join(CALIBRATOR_CLASSES)}")
    scales = {name: _float32(ranges.scale(name)) for name in ranges.tensors}
    return CalibrationCache(tensorrt_version_code(version), scales, calibrator)


def text_from_cache(cache: CalibrationCache) -> str:
    """Return the file's text. Raises CompileError for a scale or a name that TensorRT could not read back."""
    lines = [f"TRT-{cache.version_code}-{cache.calibrator}"]
    for name, scale in cache.scales.items():
        if not name or "\n" in name or "\r" in name:
            raise CompileError(f"tensor name {name!r} cannot stand in a calibration cache; rename it in the graph")
        lines.append(f"{name}: {struct.pack('>f', _checked(scale, name)).hex()}")
    return "\n".join(lines) + "\n"


def cache_from_text(text: str) -> CalibrationCache:
    """Inverse of ``text_from_cache``; takes TensorRT's own files too. Of a tensor that is named twice the last counts.

    Raises:
        CompileError: not a calibration cache, or a scale that is not a positive number.
    """
    lines = text.split("\n")
    header = _HEADER.fullmatch(lines[0].strip())
    if header is None:
        raise CompileError(f"not a TensorRT calibration cache: it starts with {lines[0][:40]!r}, not with TRT-VERSION-")
    scales = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, colon, digits = line.rstrip("\r").rpartition(":")
        if not (colon and name and _HEX.fullmatch(digits.strip())):
            raise CompileError(f"line {number} of the calibration cache is not 'TENSOR: HEX': {line[:60]!r}")
        (scale,) = struct.unpack(">f", bytes.fromhex(digits.strip().zfill(8)))
        scales[name] = _checked(scale, name)
    return CalibrationCache(int(header[1]), scales, header[2])


def _checked(scale: float, name: str) -> float:
    if not (math.isfinite(scale) and scale > 0):
        raise CompileError(f"tensor {name[:60]!r} has the scale {scale}, which is not a positive number")
    return scale


def _float32(value: float) -> float:
    (rounded,) = struct.unpack(">f", struct.pack(">f", value))
    return float(rounded)
