"""What every source that ends must keep. A source's test class derives from this and provides ``source``."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

PATIENCE = 10_000
"""How often ``read`` may say in a row that no frame has come yet."""


def frames_of(source: FrameSource) -> list[Frame]:
    """Every frame of an open source up to its end."""
    found: list[Frame] = []
    waited = 0
    while waited < PATIENCE:
        try:
            frame = source.read()
        except EndOfStream:
            return found
        waited = waited + 1 if frame is None else 0
        found += [] if frame is None else [frame]
    raise AssertionError(f"neither a frame nor an end in {PATIENCE} calls")


class SourceContract:
    """Fixture to provide: ``source`` (not yet open, of two frames or more that differ)."""

    def test_frames_are_pictures_that_are_counted(self, source: FrameSource) -> None:
        with source:
            frames = frames_of(source)
        assert len(frames) >= 2 and [frame.index for frame in frames] == list(range(len(frames)))
        for frame in frames:
            height, width, channels = frame.image.shape
            assert height > 0 and width > 0 and channels == 3 and frame.image.dtype == np.uint8
            assert frame.label is None or (frame.label.shape, frame.label.dtype) == ((height, width), np.uint8)
        assert (frames[0].image != frames[-1].image).any(), "a frame is not overwritten by the next"
        assert len({frame.name for frame in frames}) == len(frames), "results are kept under these names"

    def test_times_do_not_run_backwards(self, source: FrameSource) -> None:
        with source:
            times = [(frame.captured_ns, frame.at_ns) for frame in frames_of(source)]
        assert times == sorted(times) and all(captured > 0 for captured, _ in times)

    def test_the_end_stays_the_end(self, source: FrameSource) -> None:
        with source:
            frames_of(source)
            for _ in range(2):
                with pytest.raises(EndOfStream):
                    source.read()

    def test_closed_twice_and_opened_again(self, source: FrameSource) -> None:
        with source:
            first = frames_of(source)
        source.close()
        source.close()
        with source:
            again = frames_of(source)
        assert len(again) == len(first)
        np.testing.assert_array_equal(again[0].image, first[0].image)

    def test_says_what_it_is(self, source: FrameSource) -> None:
        assert len(source.description) > 5 and source.is_live in (True, False)
