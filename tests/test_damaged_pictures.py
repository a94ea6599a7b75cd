"""Pictures that a disk, a card or a network damaged: read as they were, or refused, never as something else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.data.encodings import ENCODINGS
from edgeseg.errors import ImageError
from edgeseg.image_bytes import damage, is_cut
from edgeseg.images import read_image, read_mask
from tests.picture_writers import png, with_header

LARGE = cv2.resize(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8), (640, 480))
IDS = cv2.resize(np.random.default_rng(1).integers(0, 5, (6, 8), dtype=np.uint8), (80, 60), interpolation=0)
COLOURS = bytes([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200, 90, 90, 0])


@given(bits=st.sampled_from([4, 8]), coloured=st.booleans(), at=st.floats(0, 0.9999), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_one_flipped_bit_of_a_mask_changes_nothing_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, bits: int, coloured: bool, at: float, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.png"
    data = bytearray(png(IDS, bits, COLOURS if coloured else b""))
    data[int(at * len(data))] ^= 1 << bit
    path.write_bytes(data)
    for encoding in ("ids", "palette") if coloured else ("ids",):
        try:
            read = ENCODINGS[encoding](path, 5, {})
        except ImageError as error:
            assert str(path) in str(error)
        else:
            np.testing.assert_array_equal(read, IDS)


def test_a_wrong_checksum_is_said_and_one_of_a_comment_is_not(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    data = png(IDS, 8)
    at = data.index(b"IDAT") + 20
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=r"m\.png is corrupt: the checksum of its part IDAT is wrong; copy it"):
            read(path)
    comment = b"\0\0\0\5tEXt" + b"a\0bcd" + b"\0\0\0\0"
    path.write_bytes(data[:33] + comment + data[33:])
    np.testing.assert_array_equal(read_mask(path), IDS)


def _lossy(kind: str, picture: np.ndarray, **how: Any) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the file")
    kept = io.BytesIO()
    image.fromarray(picture).save(kept, kind, **how)
    return kept.getvalue()


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("WEBP", {"quality": 95}),
        ("WEBP", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("at", [0.2, 0.5, 0.9])
def test_a_lost_sector_of_a_compressed_picture_is_refused(
    tmp_path: Path, kind: str, how: dict[str, Any], at: float
) -> None:
    path = tmp_path / "a"
    data = bytearray(_lossy(kind, LARGE, **how))
    path.write_bytes(data)
    assert read_image(path).shape == LARGE.shape
    start = int(at * len(data)) // 512 * 512
    data[start : start + 512] = bytes(512)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="is corrupt: 512 bytes or more of its compressed data are zero; copy it"):
        read_image(path)


@pytest.mark.parametrize("content", ["flat", "slope", "noise", "spot"])
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("JPEG", {}),
        ("JPEG", {"quality": 5, "optimize": True}),
        ("JPEG", {"quality": 100, "progressive": True}),
        ("JPEG", {"quality": 30, "progressive": True, "optimize": True}),
        ("WEBP", {"quality": 5}),
        ("WEBP", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_healthy_picture_is_not_taken_for_damaged(
    content: str, kind: str, how: dict[str, Any], channels: int
) -> None:
    height, width = 1200, 1600
    grey = {
        "flat": np.zeros((height, width), np.uint8),
        "slope": np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)),
        "noise": np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8),
        "spot": np.pad(np.full((9, 9), 255, np.uint8), ((0, height - 9), (0, width - 9))),
    }[content]
    data = _lossy(kind, grey if channels == 1 else np.dstack([grey] * 3), **how)
    behind = bytes(4096) if kind == "JPEG" else b""  # of a recorder that fills its blocks
    assert not is_cut(data + behind) and not damage(data + behind)


@given(
    st.binary(max_size=2000), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\1\0\0WEBP", b"II*\0"])
)
def test_any_bytes_are_looked_at_without_a_traceback(data: bytes, start: bytes) -> None:
    for padded in (start + data, start + data + bytes(600) + data):
        assert isinstance(damage(padded), str)


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (2_000_000, 3)])
def test_a_picture_that_is_too_large_says_its_size(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(with_header(png(IDS, 8), width=width, height=height))
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=f"is said to be {width}x{height}, and no more than .*cut it into parts"):
            read(path)


def test_what_is_not_decoded_is_not_called_broken(tmp_path: Path) -> None:
    path = tmp_path / "m.bmp"
    path.write_bytes(b"BM" + bytes(60))
    with pytest.raises(ImageError, match=r"its content is BMP\); if a viewer shows it, save it as PNG, else remove it"):
        read_image(path)
