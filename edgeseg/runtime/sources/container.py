"""What the container of a video file writes down: whether it is all there, and how long it lasts.

Frame counts are estimates, and are not looked at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Iterator, Tuple

__all__ = ["corrections", "missing_bytes"]

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """Count the bytes that a container announces beyond its file's end; 0 where it is whole or does not say.

    MP4 and MOV say it in their top-level boxes, AVI in its RIFF chunks, Matroska and WebM in the length of their
    segment. MPEG streams say nothing, and nor does a recorder that writes lengths at its end only.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"):
            return _missing_of_boxes(file, size)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            return _missing_of_chunks(file, size)
        return _missing_of_segment(file, size) if head[:4] == _EBML else 0


def corrections(path: Path) -> list[tuple[int, bytes]]:
    """Find what GStreamer is to read instead of what an MP4 or MOV file holds, so that it shows all as it is.

    It ends a track at the first key frame that in the track's own time is later than the whole duration. A clip that
    was trimmed has its time begin before what it shows, so that its last seconds would be lost: a longer one is told.
    It passes over a track shorter than a fifth of the whole, such as pictures that begin late: a shorter one is told.
    It reads a colour box that tells the whole range of values as the narrow one (1.22): then the pictures tell.

    Returns:
        (offset in the file, bytes to take instead of those there); empty for other containers.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        whole = (b"", 0, os.fstat(file.fileno()).st_size)
        found = [(at + 4, b"free") for at in _wide_colour_boxes(file, whole)]
        for _, header, _ in _inside(file, whole, b"moov", b"mvhd"):
            scale, length, at, width = _duration(file, header)
            longest_s = max(_seconds_of_pictures(file, whole), default=0.0)
            wanted = min(int(3 * longest_s * scale), (1 << (8 * width - 1)) - 1)
            if 0 < length < wanted or length > 5 * longest_s * scale > 0:
                found.append((at, wanted.to_bytes(width, "big")))
    return found


Box = Tuple[bytes, int, int]
"""Kind, and where the content begins and ends."""


def _wide_colour_boxes(file: BinaryIO, whole: Box) -> Iterator[int]:
    """Where boxes begin that say of a track's pictures that they use the whole range (ISO 14496-12, 12.1.5)."""
    for _, begin, end in _inside(file, whole, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        for _, entry, entry_end in _boxes(file, begin + 8, end):
            for kind, colour, _ in _boxes(file, entry + 78, entry_end):
                file.seek(colour)
                if kind == b"colr" and file.read(11)[::10] == b"n\x80":
                    yield colour - 8


def _seconds_of_pictures(file: BinaryIO, whole: Box) -> Iterator[float]:
    """How long the tracks of pictures are."""
    for media in _inside(file, whole, b"moov", b"trak", b"mdia"):
        for _, handler, _ in _inside(file, media, b"hdlr"):
            file.seek(handler + 8)
            if file.read(4) != b"vide":
                continue
            for _, header, _ in _inside(file, media, b"mdhd"):
                rate, ticks = _duration(file, header)[:2]
                if rate:
                    yield ticks / rate


def _inside(file: BinaryIO, box: Box, *kinds: bytes) -> Iterator[Box]:
    """The boxes of the last kind within those of the kind before it, and so on."""
    if not kinds:
        yield box
        return
    for inner in _boxes(file, *box[1:]):
        if inner[0] == kinds[0]:
            yield from _inside(file, inner, *kinds[1:])


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[Box]:
    """The boxes between two places."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        length, kind, content = int.from_bytes(head[:4], "big"), head[4:8], at + 8
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), at + 16
        length = length or end - at
        if at + length < content:
            return
        yield kind, content, min(end, at + length)
        at += length


def _duration(file: BinaryIO, content: int) -> tuple[int, int, int, int]:
    """Ticks per second and ticks of a header box, and where in the file the ticks stand, in so many bytes."""
    file.seek(content)
    data = file.read(32)
    at, width = (24, 8) if data[:1] == b"\1" else (16, 4)
    scale, length = (int.from_bytes(data[a:b], "big") for a, b in ((at - 4, at), (at, at + width)))
    return scale, length, content + at, width


def _missing_of_boxes(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if not kind.isalnum():
            return 0  # padding or rubbish after the last box: players ignore it
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return 0  # it goes to the end of the file, or makes no sense
        at += length
    return max(0, at - size)


def _missing_of_chunks(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:  # OpenDML files have several
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return 0
        length = int.from_bytes(head[4:], "little")
        if not length:
            return 0  # its recorder was killed and wrote no length
        at += 8 + length
    return max(0, at - size)


def _missing_of_segment(file: BinaryIO, size: int) -> int:
    file.seek(4)
    header = _ebml_length(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _ebml_length(file)
    return 0 if length is None else max(0, file.tell() + length - size)


def _ebml_length(file: BinaryIO) -> int | None:
    """A variable-length number at the file's position; None where it means "unknown" or is none."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == (1 << (7 * (more + 1))) - 1 else value
