"""Read from the bytes of an image file, whatever its name: its kind, whether it is whole, how it is turned."""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress
from itertools import takewhile
from typing import Iterable, Iterator, Mapping, NamedTuple, cast

__all__ = [
    "animation_length",
    "compression_that_changes_samples",
    "exif_orientation",
    "is_cut",
    "kind_of",
    "single_channel_png",
    "tiff_pages",
    "tiff_tags",
    "tiffs_of_pages",
]

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_SUBFILE_TYPE, _REDUCED_OR_MASK = 0x00FE, 0b101
_MOST_PAGES = 1 << 16
_COMPRESSION = 0x0103
_LOSSY_IN_TIFF = {
    6: "JPEG",
    7: "JPEG",
    34887: "LERC",
    34892: "JPEG",
    34712: "JPEG 2000",
    50001: "WebP",
    50002: "JPEG XL",
}
_SHORT, _LONG = 3, 4
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)


def kind_of(data: bytes) -> str:
    """Tell a file's kind by its first bytes: PNG, JPEG, TIFF, WebP, BMP, GIF or HEIF; empty for any other."""
    if data.startswith(_PNG):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if _tiff_form(data) is not None:
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[4:8] == b"ftyp":
        return "HEIF"
    return "BMP" if data.startswith(b"BM") else ""


def is_cut(data: bytes) -> bool:
    """Tell whether the end of a PNG, JPEG or WebP is missing; decoders show the rest as if it were whole."""
    kind = kind_of(data)
    if kind == "WebP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    if kind == "JPEG":
        return not _jpeg_ends(data)
    return kind == "PNG" and b"IEND\xaeB`\x82" not in data[len(data) // 2 :]


def compression_that_changes_samples(data: bytes) -> str:
    """Name the compression of an image file that may change the saved samples, e.g. ``"JPEG"``; else empty."""
    kind = kind_of(data)
    if kind in ("JPEG", "HEIF"):
        return kind
    if kind == "WebP":
        return "lossy WebP" if b"VP8 " in (name for name, _ in _riff_chunks(data)) else ""
    inside = _LOSSY_IN_TIFF.get(tiff_tags(data).get(_COMPRESSION, 1), "") if kind == "TIFF" else ""
    return f"TIFF with {inside} inside" if inside else ""


def exif_orientation(data: bytes) -> int:
    """Return how a picture is turned for showing, 1 (as stored) to 8 as EXIF counts; 1 where the file does not say."""
    orientation = tiff_tags(_exif_block(data)).get(_ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 1


def tiff_tags(block: bytes) -> Mapping[int, int]:
    """Map the short and long tags of a TIFF's first directory to their first values; empty for other files."""
    form = _tiff_form(block)
    with suppress(struct.error):
        return _tags_at(block, form.start(block), form) if form is not None else {}
    return {}


def tiff_pages(data: bytes) -> list[int]:
    """Find the pages of a TIFF or BigTIFF: the offset in bytes of each page's directory, without thumbnails and masks.

    The list is empty for other files. Where the chain of pages points outside the file, it holds those before that
    point.
    """
    form = _tiff_form(data)
    if form is None:
        return []
    starts: list[int] = []
    with suppress(struct.error, OverflowError):
        at = form.start(data)
        seen = {0}
        while at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            (entries,) = struct.unpack_from(form.entries, data, at)
            (following,) = struct.unpack_from(form.offset, data, form.entry(at, entries))
            if not _tags_at(data, at, form).get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK:
                starts.append(at)
            at = following
    return starts


def tiffs_of_pages(data: bytes, pages: Iterable[int]) -> Iterator[bytes]:
    """Yield the TIFF once per page, with that page as its first. A yielded value is valid until the next one.

    Args:
        data: a TIFF or BigTIFF.
        pages: offsets of directories from ``tiff_pages``.
    """
    form = _tiff_form(data)
    assert form is not None
    whole = bytearray(data)  # one copy of what may be thousands of pages
    for page in pages:
        struct.pack_into(form.offset, whole, form.head, page)
        yield cast(bytes, whole)  # nobody writes to it


def animation_length(data: bytes) -> int:
    """Count the pictures of an animated PNG, WebP or GIF; 1 for all else."""
    kind = kind_of(data)
    if kind == "PNG":
        before = takewhile(lambda chunk: chunk[0] != b"IDAT", _png_chunks(data))
        return next((int.from_bytes(content[:4], "big") for name, content in before if name == b"acTL"), 1)
    if kind == "WebP":
        return max(1, sum(name == b"ANMF" for name, _ in _riff_chunks(data)))
    return max(1, _gif_pictures(data)) if kind == "GIF" else 1


def single_channel_png(data: bytes) -> tuple[bytes, int, bytes] | None:
    """Rewrite a PNG of indices or grey values so that an 8-bit decoder can show its stored samples.

    Decoders turn a palette into colours and stretch 1, 2 and 4 bits to 0-255. Class ids are the stored samples.

    Returns:
        (PNG that declares the samples as grey, factor by which a decoder stretches them, palette as RGB bytes or
            empty), or None for a PNG with several channels or 16 bits.
    """
    chunks = list(_png_chunks(data))
    header = next((content for name, content in chunks if name == b"IHDR"), b"")
    if len(header) != 13 or header[9] not in (0, 3) or header[8] not in (1, 2, 4, 8):
        return None
    palette = next((content for name, content in chunks if name == b"PLTE"), b"") if header[9] == 3 else b""
    grey = [(b"IHDR", header[:9] + b"\0" + header[10:])]
    kept = grey + [(name, content) for name, content in chunks if name in (b"IDAT", b"IEND")]
    return _PNG + b"".join(_png_chunk(*chunk) for chunk in kept), 255 // (2 ** header[8] - 1), palette


class _TiffForm(NamedTuple):
    """Layout of a TIFF or a BigTIFF: where its first directory is told, and the formats of struct."""

    order: str
    head: int
    offset: str
    entries: str

    def start(self, data: bytes) -> int:
        """Read the offset of the first directory. Raises struct.error."""
        (start,) = struct.unpack_from(self.offset, data, self.head)
        return int(start)

    def entry(self, directory: int, number: int) -> int:
        """Compute the offset of an entry in a directory; behind the last one stands the next directory's offset."""
        return directory + struct.calcsize(self.entries) + number * (4 + 2 * struct.calcsize(self.offset))


def _tiff_form(data: bytes) -> _TiffForm | None:
    order = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}.get(bytes(data[:4]))
    if order is None:
        return None
    head, offset, entries = (4, "I", "H") if b"*" in data[:4] else (8, "Q", "Q")
    return _TiffForm(order, head, order + offset, order + entries)


def _tags_at(data: bytes, directory: int, form: _TiffForm) -> dict[int, int]:
    """Read the tags of any directory like ``tiff_tags``; where it points outside the file, keep what could be read."""
    tags: dict[int, int] = {}
    with suppress(struct.error, OverflowError):
        (count,) = struct.unpack_from(form.entries, data, directory)
        for number in range(count):
            entry = form.entry(directory, number)
            tag, kind = struct.unpack_from(form.order + "HH", data, entry)
            if kind not in (_SHORT, _LONG):
                continue
            (values,) = struct.unpack_from(form.offset, data, entry + 4)
            width = struct.calcsize(form.offset)
            place, letter = entry + 4 + width, "H" if kind == _SHORT else "I"
            if values * struct.calcsize("=" + letter) > width:
                (place,) = struct.unpack_from(form.offset, data, place)
            (tags[tag],) = struct.unpack_from(form.order + letter, data, place)
    return tags


def _gif_pictures(data: bytes) -> int:
    """Count the image blocks of a GIF, as far as its blocks can be followed."""
    pictures, at = 0, 13 + _gif_table_bytes(data[10:11])
    while at < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x2C:
            pictures += 1
            at += 10 + _gif_table_bytes(data[at + 9 : at + 10]) + 1
        else:
            at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return pictures


def _gif_table_bytes(flags: bytes) -> int:
    """Return the size of the colour table that a byte of flags announces."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _exif_block(data: bytes) -> bytes:
    """Return the TIFF block that holds the EXIF entries, or nothing."""
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
    """Yield (marker, content) of the segments before the picture's data."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        if data[place + 1] == 0xFF:  # fill byte
            place += 1
            continue
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        yield data[place + 1], data[place + 4 : place + 2 + size]
        place += 2 + size


def _jpeg_ends(data: bytes) -> bool:
    """Tell whether the picture's own end mark comes. A thumbnail's does not count, nor what a phone appends behind."""
    place = 2
    while True:
        # Between scans and within them: no stuffed byte, restart mark or fill byte.
        found = _JPEG_MARKER.search(data, place)
        if found is None:
            return False
        place = found.end()
        if found.group(1) == b"\xd9":
            return True
        place += int.from_bytes(data[place : place + 2], "big")


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
