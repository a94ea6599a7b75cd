"""JPEG pictures out of what cameras send over HTTP. Loaded by the capture process, so it imports nothing of edgeseg."""

import re
from typing import List

_START = re.compile(rb"\xff\xd8\xff")
_START_OF_PART = re.compile(rb"(?<=\n)\xff\xd8\xff")
_NEXT_PART = re.compile(rb"\n\r?\n\xff\xd8")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What ends the coded data of a scan; 255 itself is written there as FF 00."""
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_LARGEST = 1 << 26
_PART = b"--edgeseg\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
_LOOKS_LIKE_PARTS = re.compile(rb"\s*(--|content-)", re.IGNORECASE)
_OTHER_PICTURES = re.compile(rb"content-type:\s*image/(?!p?jpe?g)[\w.+-]+\s*[;\r\n]", re.IGNORECASE)
_PAGE = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_ENOUGH = 16
_HEAD_BYTES = 1 << 12


class JpegParts:
    """Finds whole JPEG pictures in the bytes of a multipart stream, whatever its boundaries, headers and lengths say.

    Attributes:
        found: whole pictures.
        cut: pictures that began and were not whole; one is noticed when the next begins.
        received: bytes.
    """

    def __init__(self) -> None:
        self.found = self.cut = self.received = 0
        self._data = bytearray()
        self._start = _START
        self._inside = self._scanning = self._scanned = False
        self._at = 0

    def add(self, data: bytes) -> List[bytes]:
        """Return the pictures that are whole with these bytes."""
        self.received += len(data)
        self._data += data
        pictures = []
        while self._inside or self._begins():
            end = self._end()
            if end > 0:
                pictures.append(bytes(self._data[:end]))
                self._leave(end, _START)
            elif end < 0 or len(self._data) > _LARGEST:
                self._skip()
            else:
                break
        self.found += len(pictures)
        return pictures

    def finish(self) -> List[bytes]:
        """End the stream: a picture that has begun is not whole, but its last bytes may hold whole ones."""
        pictures = []
        while self._inside:
            self._skip()
            pictures += self.add(b"")
        return pictures

    def _skip(self) -> None:
        """Leave a picture that is cut, for the next one."""
        self.cut += 1
        if self._data[self._at : self._at + 2] == b"\xff\xd8":
            self._leave(self._at, _START)
        else:  # not for the small one that may be within this one's headers
            self._leave(2, _START_OF_PART)

    def _begins(self) -> bool:
        """Go to the beginning of the next picture; whether it is there."""
        start = self._start.search(self._data)
        if start is None:
            del self._data[:-4]
            return False
        del self._data[: start.start()]
        self._inside, self._scanning, self._scanned, self._at = True, False, False, 2
        return True

    def _leave(self, end: int, start: "re.Pattern[bytes]") -> None:
        del self._data[:end]
        self._inside, self._start = False, start

    def _end(self) -> int:
        """Where the picture ends; 0 when that has not come yet, -1 when it is cut."""
        data = self._data
        while True:
            if self._scanning:
                marker = _MARKER.search(data, self._at)
                if marker is None:
                    self._at = max(self._at, len(data) - 1)
                    return 0
                self._at, self._scanning = marker.start(), False
            if len(data) < self._at + 2:
                return 0
            kind = data[self._at + 1]
            if data[self._at] != 0xFF or kind < 0xC0 or kind == _SOI:
                return -1
            if kind == _EOI:
                return self._at + 2 if self._scanned else -1
            if kind == 0xFF:  # a byte that fills
                self._at += 1
                continue
            if len(data) < self._at + 4:
                return 0
            length = int.from_bytes(data[self._at + 2 : self._at + 4], "big")
            if len(data) < self._at + 2 + length:
                return 0
            if _NEXT_PART.search(data, self._at + 4, self._at + 2 + length):  # it was cut within this segment
                return -1
            self._at += 2 + length
            self._scanning = kind == _SOS
            self._scanned = self._scanned or self._scanning


class Normaliser:
    """Makes one well-formed multipart stream of what a camera sends; all else passes as it is.

    Attributes:
        parts: what was found; None while it is not decided, or where all passes.
        passes: nothing more is to be done with the stream.
        is_page: it is a web page.
    """

    def __init__(self, content_type: str = "") -> None:
        self.parts = JpegParts() if content_type.lower().startswith("multipart/") else None
        self.passes = self.is_page = False
        self._head = b""

    def add(self, data: bytes) -> bytes:
        """Return what is to be sent on instead of these bytes."""
        if self.passes:
            return data
        if len(self._head) < _HEAD_BYTES:
            self._head += data
            if self.parts is None:
                if len(self._head.lstrip()) < _ENOUGH:
                    return b""
                if not _LOOKS_LIKE_PARTS.match(self._head):
                    self.passes, self.is_page = True, _PAGE.match(self._head) is not None
                    return self._head
                self.parts, data = JpegParts(), self._head
            if not self.parts.found and _OTHER_PICTURES.search(self._head):
                self.parts, self.passes = None, True
                return self._head
        assert self.parts is not None
        return _in_parts(self.parts.add(data))

    def finish(self) -> bytes:
        """Return what is left to be sent on at the end."""
        if self.parts is not None:
            return _in_parts(self.parts.finish())
        return b"" if self.passes else self._head


def _in_parts(pictures: List[bytes]) -> bytes:
    return b"".join(_PART % (len(picture), picture) for picture in pictures)
