"""What the bytes of an image file say, whatever its name says: its kind, whether it is whole, how it is turned."""

from __future__ import annotations

import struct
import zlib
from typing import Iterator, Mapping

__all__ = ["exif_orientation", "is_cut", "kind_of", "single_channel_png", "tiff_tags"]

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4


def kind_of(data: bytes) -> str:
    """``"PNG"``, ``"JPEG"``, ``"TIFF"``, ``"WebP"``, ``"BMP"``, ``"GIF"``, ``"HEIF"`` or ``""`` by the first bytes."""
    if data.startswith(_PNG):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[4:8] == b"ftyp":
        return "HEIF"
    return "BMP" if data.startswith(b"BM") else ""


def is_cut(data: bytes) -> bool:
    """Whether the end of a PNG, JPEG or WebP is missing, of which decoders show the part that is there as if whole."""
    kind = kind_of(data)
    if kind == "WebP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    mark = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}.get(kind)
    return mark is not None and mark not in data[len(data) // 2 :]


def exif_orientation(data: bytes) -> int:
    """How a picture is to be turned for showing, 1 (as stored) to 8, as EXIF counts; 1 where nothing is said."""
    orientation = tiff_tags(_exif_block(data)).get(_ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 1


def tiff_tags(block: bytes) -> Mapping[int, int]:
    """Tag -> first value, of the short and long entries of the first directory; empty for what is no TIFF block."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return {}
    tags = {}
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", block, entry)
            if kind not in (_SHORT, _LONG):
                continue
            form, width = (order + "H", 2) if kind == _SHORT else (order + "I", 4)
            is_inside = values * width <= 4
            place = entry + 8 if is_inside else struct.unpack_from(order + "I", block, entry + 8)[0]
            (tags[tag],) = struct.unpack_from(form, block, place)
    except struct.error:  # a directory that points outside the file: what was read so far
        pass
    return tags


def single_channel_png(data: bytes) -> tuple[bytes, int, bytes] | None:
    """A PNG of indices or grey values as an 8-bit decoder can show its stored samples.

    Decoders turn a palette into colours and stretch 1, 2 and 4 bits to 0-255. Class ids are the stored samples.

    Returns:
        (PNG that declares the samples as grey, factor by which a decoder stretches them, palette as RGB bytes or
        empty), or None for a PNG with several channels or 16 bits.
    """
    chunks = list(_png_chunks(data))
    header = next((content for name, content in chunks if name == b"IHDR"), b"")
    if len(header) != 13 or header[9] not in (0, 3) or header[8] > 8:
        return None
    palette = next((content for name, content in chunks if name == b"PLTE"), b"") if header[9] == 3 else b""
    grey = [(b"IHDR", header[:9] + b"\0" + header[10:])]
    kept = grey + [(name, content) for name, content in chunks if name in (b"IDAT", b"IEND")]
    return _PNG + b"".join(_png_chunk(*chunk) for chunk in kept), 255 // (2 ** header[8] - 1), palette


def _exif_block(data: bytes) -> bytes:
    """The TIFF block that holds the EXIF entries, or nothing."""
    kind = kind_of(data)
    if kind == "TIFF":
        return data
    if kind == "JPEG":
        found = (content for marker, content in _jpeg_segments(data) if marker == 0xE1 and content[:4] == b"Exif")
    elif kind == "PNG":
        found = (content for name, content in _png_chunks(data) if name == b"eXIf")
    elif kind == "WebP":
        found = (content for name, content in _riff_chunks(data) if name == b"EXIF")
    else:
        return b""
    block = next(found, b"")
    return block[6:] if block.startswith(b"Exif\0\0") else block


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG)
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        place += 12 + size


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of the segments before the picture's data."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        if data[place + 1] == 0xFF:  # fill byte
            place += 1
            continue
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        yield data[place + 1], data[place + 4 : place + 2 + size]
        place += 2 + size


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
