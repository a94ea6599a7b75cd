"""Write pictures that common programs write and that test dependencies do not."""

from __future__ import annotations

import struct
import zlib
from typing import Sequence

import cv2
import numpy as np


def png(samples: np.ndarray, bits: int, palette: bytes = b"", interlaced: bool = False) -> bytes:
    """A one-channel PNG written by hand: ``samples`` are what is stored, in ``bits`` each."""
    rows = b"".join(b"\0" + np.packbits(_as_bits(row, bits)).tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, 3 if palette else 0, 0, 0, 0)
    parts = [
        (b"IHDR", header),
        *([(b"PLTE", palette)] if palette else []),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(pages: Sequence[np.ndarray], big: bool, order: str = "<", **tags: Sequence[int]) -> bytes:
    """A TIFF of uncompressed HxW or HxWx3 pages, for older versions of Pillow write neither BigTIFF nor tags by page.

    Of the tags that are named here there is a value for each page.
    """
    offset, size, head = ("Q", 8, 16) if big else ("I", 4, 8)
    mark = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    data = mark + (struct.pack(order + "HHQ", 8, 0, head) if big else struct.pack(order + "I", head))
    for number, page in enumerate(pages):
        depth = page.shape[2] if page.ndim == 3 else 1
        values = {
            "subfile": 0, "width": page.shape[1], "height": page.shape[0], "bits": 8 * page.itemsize, "compression": 1,
            "photometric": 2 if depth == 3 else 1, "strip": 0, "samples": depth, "rows": page.shape[0],
            "bytes": page.nbytes, **{name: of_pages[number] for name, of_pages in tags.items()},
        }  # fmt: skip
        count = struct.pack(order + ("Q" if big else "H"), len(values))
        end = len(data) + len(count) + len(values) * (4 + 2 * size) + size
        values["strip"] = end
        entries = b"".join(
            struct.pack(order + "HH" + offset, _TAGS[name], 4, 1) + struct.pack(order + "I", value).ljust(size, b"\0")
            for name, value in sorted(values.items(), key=lambda one: _TAGS[one[0]])
        )
        following = end + page.nbytes if number + 1 < len(pages) else 0
        data += count + entries + struct.pack(order + offset, following)
        data += page.astype(page.dtype.newbyteorder(order)).tobytes()
    return data


_TAGS = {
    "subfile": 254, "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "strip": 273,
    "orientation": 274, "samples": 277, "rows": 278, "bytes": 279, "planes": 284, "tile_width": 322, "extra": 338,
}  # fmt: skip


READS_BIG_TIFF = cv2.imdecode(np.frombuffer(tiff([np.zeros((2, 2), np.uint8)], True), np.uint8), -1) is not None
"""OpenCV 4.5 does not."""


def with_header(data: bytes, **changes: int) -> bytes:
    """A PNG with other values in its header, and the checksum of those."""
    header = list(struct.unpack(">IIBBBBB", data[16:29]))
    for name, value in changes.items():
        header[("width", "height", "depth", "colour").index(name)] = value
    chunk = b"IHDR" + struct.pack(">IIBBBBB", *header)
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def _as_bits(row: np.ndarray, bits: int) -> np.ndarray:
    return (row[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).ravel()
