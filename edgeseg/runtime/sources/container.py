"""Whether a video file is all there, by the lengths that its container writes down. Frame counts are estimates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes"]

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """How many bytes a container announces beyond the end of its file; 0 where it is whole or does not say.

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
