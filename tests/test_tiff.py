"""TIFFs of every layout: read as other kinds of file with the same samples are, or refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.data.encodings import ENCODINGS
from edgeseg.errors import ImageError
from edgeseg.images import read_image, read_mask
from tests.picture_writers import READS_BIG_TIFF, tiff

PICTURE = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8), (40, 32))


@given(
    deep=st.booleans(),
    channels=st.sampled_from([1, 2, 3, 4]),
    photometric=st.sampled_from([0, 1, 2]),
    extra=st.sampled_from([0, 1, 2]),
    in_planes=st.booleans(),
    big=st.booleans() if READS_BIG_TIFF else st.just(False),
    order=st.sampled_from("<>"),
)
@settings(max_examples=150)
def test_the_stored_samples_are_shown_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    deep: bool,
    channels: int,
    photometric: int,
    extra: int,
    in_planes: bool,
    big: bool,
    order: str,
) -> None:
    """Samples beyond the colours are alpha or near infrared; neither changes the colours, as in other kinds of file."""
    photometric = photometric if channels < 3 else 2
    if channels < 3 and photometric == 2:
        return
    stored = PICTURE[..., :channels]
    pixels = stored.astype(np.uint16) * 257 if deep else stored
    tags = {"photometric": [photometric], "samples": [channels], "planes": [2 if in_planes else 1]}
    if channels in (2, 4):
        tags["extra"] = [extra]
    path = tmp_path_factory.getbasetemp() / "layout.tif"
    path.write_bytes(tiff([pixels[..., 0] if channels == 1 else pixels], big, order, **tags))
    if in_planes and channels > 1 and not deep:
        return  # of one strip, which is not what it says
    expected = stored[..., 2::-1] if photometric == 2 else np.repeat(stored[..., :1], 3, 2)
    expected = 255 - expected if photometric == 0 else expected
    if deep and (photometric == 0 or (in_planes and channels > 1)):
        with pytest.raises(ImageError, match="is a TIFF of more than 8 bits .*, which is not read; save it"):
            read_image(path)
    else:
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize(("channels", "tags"), [(2, {"tile_width": 16}), (2, {"planes": 2}), (3, {}), (4, {})])
def test_several_channels_of_grey_are_refused(tmp_path: Path, channels: int, tags: dict[str, int]) -> None:
    path = tmp_path / "a.tif"
    listed = {name: [value] for name, value in tags.items()}
    path.write_bytes(tiff([PICTURE[..., :channels]], False, photometric=[1], **listed))
    with pytest.raises(ImageError, match=f"is a TIFF of {channels} channels that are not RGB, which is not read"):
        read_image(path)


def test_a_mask_of_two_channels_is_refused_in_each_encoding(tmp_path: Path) -> None:
    """Decoders drop the alpha of a grey TIFF, in which the mask may be."""
    path = tmp_path / "m.tif"
    path.write_bytes(tiff([np.dstack([PICTURE[..., 0], PICTURE[..., 0]])], False, photometric=[1], extra=[2]))
    assert read_image(path).shape == (32, 40, 3)
    for encoding in ("ids", "binary", "threshold", "colours"):
        with pytest.raises(ImageError, match="is a grey TIFF with 2 channels, of which a mask has one"):
            ENCODINGS[encoding](path, 2, {(0, 0, 0): 0})


def test_the_alpha_of_a_mask_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    white = np.full((4, 4, 4), 255, np.uint8)
    path.write_bytes(tiff([white], False, photometric=[2], extra=[2]))
    assert ENCODINGS["threshold"](path, 2, {}).all()
    white[1, :, 3] = 0
    path.write_bytes(tiff([white], False, photometric=[2], extra=[2]))
    with pytest.raises(ImageError, match="is transparent in 4 pixels"):
        ENCODINGS["threshold"](path, 2, {})


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_that_is_marked_as_turned_is_refused(tmp_path: Path, orientation: int) -> None:
    """OpenCV turns a TIFF and no PNG."""
    path = tmp_path / "m.tif"
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6)
    path.write_bytes(tiff([ids], False, orientation=[orientation]))
    if orientation == 1:
        np.testing.assert_array_equal(read_mask(path), ids)
    else:
        with pytest.raises(ImageError, match=f"turned or mirrored by its orientation {orientation}.*exiftool.*mogrify"):
            read_mask(path)
