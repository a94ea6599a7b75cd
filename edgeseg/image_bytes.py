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
    "damage",
    "exif_orientation",
    "is_cut",
    "kind_of",
    "layout_that_is_misread",
    "single_channel_png",
    "stored_size",
    "tiff_pages",
    "tiff_tags",
    "tiffs_of_pages",
    "with_colours_kept",
]

_PNG = b"\x89PNG\r\n\x1a\n"
_NEEDED_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
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
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 262, 277
_PLANES, _TILE_WIDTH, _EXTRA_SAMPLES = 284, 322, 338
_COLOURS_OF_PHOTOMETRIC = {2: 3, 5: 4, 6: 3, 8: 3}
_STRAIGHT_ALPHA = 2
_HEIF_BRANDS = (b"mif1", b"msf1", b"mif2", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"avif", b"avis")
_LOST_BLOCK = bytes(512)
"""What a disk or card that lost a sector gives in its place."""
_JPEG_TABLES, _JPEG_END, _JPEG_SCAN = 0xC4, 0xD9, 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {_JPEG_TABLES, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)


def kind_of(data: bytes) -> str:
    """Tell a file's kind by its first bytes: PNG, JPEG, TIFF, WebP, BMP, GIF, HEIF or MP4; empty for any other."""
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
        return "HEIF" if data[8:12] in _HEIF_BRANDS else "MP4"
    return "BMP" if data.startswith(b"BM") else ""


def is_cut(data: bytes) -> bool:
    """Tell whether the end of a PNG, JPEG or WebP is missing; decoders show the rest as if it were whole."""
    kind = kind_of(data)
    if kind == "WebP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    if kind == "JPEG":
        return all(marker != _JPEG_END for marker, _, _ in _jpeg_segments(data))
    return kind == "PNG" and b"IEND\xaeB`\x82" not in data[len(data) // 2 :]


def damage(data: bytes) -> str:
    """Tell how the content of a whole PNG, JPEG or WebP is known to be damaged; empty where nothing is.

    Decoders of JPEG and WebP show the rest as if it were right, and a PNG that is rewritten has new checksums.
    """
    kind = kind_of(data)
    if kind == "PNG":
        wrong = (name for name, _, is_right in _png_chunks(data) if not is_right and name.upper() in _NEEDED_CHUNKS)
        name = next(wrong, None)
        return f"the checksum of its part {name.decode('ascii', 'replace')} is wrong" if name is not None else ""
    is_lost = _LOST_BLOCK in data and (
        (kind == "JPEG" and _jpeg_lost_block(data))
        or (kind == "WebP" and any(_LOST_BLOCK in part for name, part in _riff_chunks(data) if name[:3] == b"VP8"))
    )
    return f"{len(_LOST_BLOCK)} bytes or more of its compressed data are zero" if is_lost else ""


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


def stored_size(data: bytes) -> tuple[int, int]:
    """Return height and width as a PNG, JPEG, TIFF or BMP says them; 0 and 0 where they are not found."""
    kind = kind_of(data)
    if kind == "PNG":
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if kind == "JPEG":
        frames = (content for marker, content, _ in _jpeg_segments(data) if marker in _JPEG_FRAMES)
        frame = next(frames, b"")
        return int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if kind == "BMP":
        width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
        return abs(height), abs(width)
    tags = tiff_tags(data)
    return tags.get(_HEIGHT, 0), tags.get(_WIDTH, 0)


def layout_that_is_misread(data: bytes) -> str:
    """Say in words what OpenCV decodes to other samples than a TIFF stores, without saying so; else empty."""
    tags = tiff_tags(data)
    photometric, samples = tags.get(_PHOTOMETRIC, 1), tags.get(_SAMPLES, 1)
    colours, in_planes = _COLOURS_OF_PHOTOMETRIC.get(photometric, 1), tags.get(_PLANES, 1) == 2 and samples > 1
    if tags.get(_BITS_PER_SAMPLE, 1) > 8 and in_planes:
        return "more than 8 bits and a plane for each channel"
    if tags.get(_BITS_PER_SAMPLE, 1) > 8 and photometric not in (1, 2):
        return "more than 8 bits that are neither grey, with black as 0, nor RGB"
    if colours == 1 and (samples > 2 or (samples == 2 and (in_planes or _TILE_WIDTH in tags))):
        return f"{samples} channels that are not RGB"
    return ""


def with_colours_kept(data: bytes) -> bytes:
    """Return a file whose decoder leaves its colours alone: the alpha of a TIFF is declared as a sample like others.

    Decoders multiply the colours of a TIFF by its alpha, those of other kinds not. Many programs declare near infrared
    as alpha.
    """
    form = _tiff_form(data)
    if form is None or tiff_tags(data).get(_EXTRA_SAMPLES) != _STRAIGHT_ALPHA:
        return data
    changed = bytearray(data)
    with suppress(struct.error, OverflowError):
        for tag, letter, place in _values_at(data, form.start(data), form):
            if tag == _EXTRA_SAMPLES:
                struct.pack_into(form.order + letter, changed, place, 0)
    return bytes(changed)


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
        return next((int.from_bytes(content[:4], "big") for name, content, _ in before if name == b"acTL"), 1)
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
    chunks = [(name, content) for name, content, _ in _png_chunks(data)]
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
        for tag, letter, place in _values_at(data, directory, form):
            (tags[tag],) = struct.unpack_from(form.order + letter, data, place)
    return tags


def _values_at(data: bytes, directory: int, form: _TiffForm) -> Iterator[tuple[int, str, int]]:
    """Yield (tag, letter of struct, offset of the first value). Raises struct.error, OverflowError: not in the file."""
    (count,) = struct.unpack_from(form.entries, data, directory)
    width = struct.calcsize(form.offset)
    for number in range(count):
        entry = form.entry(directory, number)
        tag, kind = struct.unpack_from(form.order + "HH", data, entry)
        if kind not in (_SHORT, _LONG):
            continue
        (values,) = struct.unpack_from(form.offset, data, entry + 4)
        place, letter = entry + 4 + width, "H" if kind == _SHORT else "I"
        if values * struct.calcsize("=" + letter) > width:
            (place,) = struct.unpack_from(form.offset, data, place)
        yield tag, letter, place


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
        before = takewhile(lambda segment: segment[0] != _JPEG_SCAN, _jpeg_segments(data))
        found = (content for marker, content, _ in before if marker == 0xE1 and content[:4] == b"Exif")
    elif kind == "PNG":
        found = (content for name, content, is_right in _png_chunks(data) if name == b"eXIf" and is_right)
    elif kind == "WebP":
        found = (content for name, content in _riff_chunks(data) if name == b"EXIF")
    else:
        return b""
    block = next(found, b"")
    return block[6:] if block.startswith(b"Exif\0\0") else block


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield (name, content, whether its checksum is right) of each chunk."""
    place = len(_PNG)
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + size
        is_right = data[end : end + 4] == zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        yield data[place + 4 : place + 8], data[place + 8 : end], is_right
        place = end + 4


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield (marker, content, where it ends) up to the picture's own end mark, with that.

    A thumbnail's end mark lies in a segment, and what a phone appends lies behind.
    """
    place = 2
    while True:
        # Between scans and within them: no stuffed byte, restart mark or fill byte.
        found = _JPEG_MARKER.search(data, place)
        if found is None:
            return
        marker, start = found.group(1)[0], found.end()
        if marker == _JPEG_END:
            yield marker, b"", start
            return
        place = start + int.from_bytes(data[start : start + 2], "big")
        yield marker, data[start + 2 : place], place


def _jpeg_lost_block(data: bytes) -> bool:
    """Tell whether zeros stand in a JPEG where they would be a long row of equal coefficients, which no picture has.

    Where its codes make zeros a flat area, as those of an optimiser may, nothing tells.
    """
    first_symbols: dict[int, int] = {}
    for marker, content, end in _jpeg_segments(data):
        at = 0
        while marker == _JPEG_TABLES and at + 17 < len(content):
            first_symbols[content[at]] = content[at + 17]  # its code is all zeros
            at += 17 + sum(content[at + 1 : at + 17])
        if marker == _JPEG_SCAN and _zeros_are_coefficients(content, first_symbols):
            following = _JPEG_MARKER.search(data, end)
            if data.find(_LOST_BLOCK, end, following.start() if following else len(data)) >= 0:
                return True
    return False


def _zeros_are_coefficients(scan: bytes, first_symbols: Mapping[int, int]) -> bool:
    """Tell whether zeros in a scan stand for AC coefficients other than 0 of some component."""
    components = scan[0] if scan else 0
    of_components, bands = scan[2 : 2 + 2 * components : 2], scan[1 + 2 * components :]
    if len(bands) < 3 or not bands[1] or bands[2] >> 4:
        return False  # DC alone, or a refinement
    return any(first_symbols.get(0x10 | tables & 15, 0) & 15 for tables in of_components)


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
