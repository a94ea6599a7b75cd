"""Turn image messages of ROS into pictures."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

import numpy as np

from edgeseg.errors import ImageError, SourceError
from edgeseg.images import image_from_bytes

__all__ = ["COMPRESSED", "ENCODINGS", "RAW", "picture_of"]

RAW = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


class _Encoding(NamedTuple):
    """How the pixels of an encoding are stored.

    Attributes:
        channels: samples per pixel.
        bits: of a sample, 8 or 16.
        to_bgr: name of OpenCV's conversion; empty where the samples are blue, green and red already.
    """

    channels: int
    bits: int
    to_bgr: str = ""


# OpenCV names a Bayer pattern by the second row and column, ROS by the first (sensor_msgs/image_encodings.hpp).
_BAYER = {"rggb": "BayerBG2BGR", "bggr": "BayerRG2BGR", "gbrg": "BayerGR2BGR", "grbg": "BayerGB2BGR"}

ENCODINGS: Mapping[str, _Encoding] = {
    "bgr8": _Encoding(3, 8),
    "rgb8": _Encoding(3, 8, "RGB2BGR"),
    "bgra8": _Encoding(4, 8, "BGRA2BGR"),
    "rgba8": _Encoding(4, 8, "RGBA2BGR"),
    "mono8": _Encoding(1, 8, "GRAY2BGR"),
    "8UC1": _Encoding(1, 8, "GRAY2BGR"),
    "8UC3": _Encoding(3, 8),
    "bgr16": _Encoding(3, 16),
    "rgb16": _Encoding(3, 16, "RGB2BGR"),
    "bgra16": _Encoding(4, 16, "BGRA2BGR"),
    "rgba16": _Encoding(4, 16, "RGBA2BGR"),
    "mono16": _Encoding(1, 16, "GRAY2BGR"),
    **{f"bayer_{pattern}{bits}": _Encoding(1, bits, name) for pattern, name in _BAYER.items() for bits in (8, 16)},
    "yuv422": _Encoding(2, 8, "YUV2BGR_UYVY"),
    "uyvy": _Encoding(2, 8, "YUV2BGR_UYVY"),
    "yuv422_yuy2": _Encoding(2, 8, "YUV2BGR_YUY2"),
    "yuyv": _Encoding(2, 8, "YUV2BGR_YUY2"),
}
"""Encodings of sensor_msgs/Image that are pictures. Depth (16UC1, 32FC1) is none."""


def picture_of(message: Any, kind: str, where: str) -> np.ndarray:
    """Return the picture of a message, HxWx3 uint8 BGR.

    Args:
        message: a deserialised ``sensor_msgs/Image`` or ``CompressedImage``.
        kind: ``RAW`` or ``COMPRESSED``.
        where: of the message, for people.

    Raises:
        SourceError: it is no picture, damaged, or of an encoding that is not read.
    """
    try:
        return _READERS[kind](message, where)
    except ImageError as error:
        raise SourceError(str(error)) from error


def _compressed(message: Any, where: str) -> np.ndarray:
    if "compressedDepth" in message.format:
        raise SourceError(f"{where} is a depth image ({message.format}) and no picture; name the topic of a camera")
    return image_from_bytes(message.data.tobytes(), where)


def _raw(message: Any, where: str) -> np.ndarray:
    import cv2

    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise SourceError(
            f"{where} has the encoding {message.encoding!r}, which is not read; there are {', '.join(ENCODINGS)}"
        )
    height, width, step = int(message.height), int(message.width), int(message.step)
    row, held = width * encoding.channels * encoding.bits // 8, message.data.nbytes
    if not (height and width and step >= row and held >= step * (height - 1) + row):
        raise SourceError(
            f"{where} is damaged: {width}x{height} {message.encoding} with rows of {step} bytes does not fit into "
            f"{held} bytes"
        )
    rows = np.lib.stride_tricks.as_strided(message.data.view(np.uint8), (height, row), (step, 1), writeable=False)
    samples = np.ascontiguousarray(rows)
    if encoding.bits == 16:
        # The upper byte is the picture.
        samples = np.ascontiguousarray(samples[:, 0 if message.is_bigendian else 1 :: 2])
    if encoding.channels > 1:
        samples = samples.reshape(height, width, encoding.channels)
    if not encoding.to_bgr:
        return samples
    try:
        return np.asarray(cv2.cvtColor(samples, getattr(cv2, f"COLOR_{encoding.to_bgr}")))
    except cv2.error as error:  # such as an odd width of two pixels that share their colour
        raise SourceError(f"{where} cannot be converted: {width}x{height} {message.encoding}") from error


_READERS: Mapping[str, Callable[[Any, str], np.ndarray]] = {RAW: _raw, COMPRESSED: _compressed}
