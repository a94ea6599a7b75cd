"""JPEG pictures out of the streams of cameras that keep to no standard: every whole one, and no other."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.runtime.gst.jpeg_parts import JpegParts, Normaliser


def jpeg(level: int, *, progressive: bool = False, thumbnail: bool = False) -> bytes:
    """A noisy picture, as its thumbnail a smaller one."""
    from PIL import Image

    rng = np.random.default_rng(level)
    picture = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    kept, how = io.BytesIO(), {}
    if thumbnail:
        small = cv2.imencode(".jpg", rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))[1].tobytes()
        how["exif"] = b"Exif\0\0II*\0\x08\0\0\0\0\0" + small  # found by whoever only looks for the first bytes
    picture.save(kept, "JPEG", quality=90, progressive=progressive, **how)
    return kept.getvalue()


PICTURES = [jpeg(n, progressive=p, thumbnail=t) for n in range(3) for p in (False, True) for t in (False, True)]
BLANKS = st.sampled_from([b"", b"\r\n", b"\n", b"\0\0\0", b"\r\n\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes], int]:
    """The bytes of a stream, its whole pictures, and how many are cut."""
    end, boundary = draw(st.sampled_from([b"\r\n", b"\n"])), draw(st.sampled_from([b"--frame", b"----x", b"--", b"f"]))
    stream, whole, cut = draw(st.sampled_from([b"", b"This is a camera.\r\n", b"\r\n"])), [], 0
    for number in range(draw(st.integers(1, 6))):
        picture = draw(st.sampled_from(PICTURES))
        is_cut = draw(st.booleans()) and draw(st.booleans())
        head = [] if number == 0 and draw(st.booleans()) else [boundary]
        head += [b"Content-Type: image/jpeg"] if draw(st.booleans()) else []
        head += [b"Content-Length: %d" % draw(st.sampled_from([len(picture), 0, 7]))] if draw(st.booleans()) else []
        stream += b"".join(line + end for line in [*head, b""])
        stream += picture[: draw(st.integers(4, len(picture) - 3))] if is_cut else picture
        whole, cut = whole if is_cut else [*whole, picture], cut + is_cut
        stream += draw(BLANKS)
    return stream, whole, cut


@given(streams(), st.integers(1, 3000), st.sampled_from(["", "multipart/x-mixed-replace; boundary=other"]))
@settings(max_examples=150)
def test_every_whole_picture_and_no_other(made: tuple[bytes, list[bytes], int], size: int, content_type: str) -> None:
    stream, whole, cut = made
    parts = JpegParts()
    found = [picture for at in range(0, len(stream), size) for picture in parts.add(stream[at : at + size])]
    found += parts.finish()
    assert found == whole and (parts.found, parts.cut) == (len(whole), cut)
    if content_type or len(stream) > 60 and stream.lstrip().lower().startswith((b"--", b"content-")):
        normaliser = Normaliser(content_type)
        sent = b"".join(normaliser.add(stream[at : at + size]) for at in range(0, len(stream), size))
        sent += normaliser.finish()
        assert sent == b"".join(
            b"--edgeseg\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(one), one)
            for one in whole
        )


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_picture_that_is_cut_within_a_header_does_not_take_the_next_one_in(end: bytes) -> None:
    """The length of the header may reach just to a marker of the next picture."""
    for picture in PICTURES[:2]:
        for cut in range(4, 40):
            for length in range(48):
                parts = JpegParts()
                found = parts.add(picture[:cut] + end + b"-" * length + end + end + picture) + parts.finish()
                assert found == [picture] and parts.cut == 1, (cut, length)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_what_is_no_stream_of_pictures_passes_as_it_is(chunks: list[bytes]) -> None:
    normaliser = Normaliser("video/mp2t")
    sent = b"".join(map(normaliser.add, [b"\0", *chunks])) + normaliser.finish()
    assert sent == b"\0" + b"".join(chunks) and normaliser.parts is None


@pytest.mark.parametrize("kind", ["multipart/x-mixed-replace; boundary=b", ""])
def test_parts_that_are_other_pictures_pass(kind: str) -> None:
    stream = b"--b\r\nContent-Type: image/png\r\n\r\n" + cv2.imencode(".png", np.zeros((4, 4)))[1].tobytes()
    normaliser = Normaliser(kind)
    assert normaliser.add(stream[:20]) == b"" and normaliser.add(stream[20:]) == stream and normaliser.passes


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_any_bytes_are_looked_through(chunks: list[bytes]) -> None:
    parts, found = JpegParts(), []
    for chunk in [b"\xff\xd8\xff", *chunks, b"\n\n", PICTURES[0], b"\n\n", PICTURES[1]]:
        found += parts.add(chunk)
    found += parts.finish()
    assert found[-1] == PICTURES[1] and parts.cut
