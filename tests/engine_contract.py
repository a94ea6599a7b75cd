"""What every engine must keep. A back end's test class derives from this and provides ``engine`` and ``frames``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edgeseg.engines.base import Engine
from edgeseg.errors import EngineError


class EngineContract:
    """Fixtures to provide: ``engine`` (open, fresh) and ``frames`` (two different inputs of its shape)."""

    def test_shapes_and_dtypes(self, engine: Engine, frames: Any) -> None:
        n, height, width, channels = engine.input.shape
        assert channels == 3 and engine.input.dtype == np.uint8
        classes = engine.infer(frames[0])
        assert classes.shape == (n, height, width) and classes.dtype == np.uint8

    def test_deterministic_and_depends_on_the_frame(self, engine: Engine, frames: Any) -> None:
        first = engine.infer(frames[0]).copy()
        second = engine.infer(frames[1]).copy()
        assert (first != second).any()
        np.testing.assert_array_equal(engine.infer(frames[0]), first)

    def test_filling_the_input_in_place_is_the_same(self, engine: Engine, frames: Any) -> None:
        expected = engine.infer(frames[1]).copy()
        engine.input[:] = frames[1]
        np.testing.assert_array_equal(engine.infer(engine.input), expected)

    def test_owns_its_buffers(self, engine: Engine, frames: Any) -> None:
        before = frames[0].copy()
        one, two = engine.infer(frames[0]), engine.infer(frames[1])
        assert np.shares_memory(one, two), "the output buffer is reused: no allocation per frame"
        np.testing.assert_array_equal(frames[0], before)

    def test_non_contiguous_frames_are_fine(self, engine: Engine, frames: Any) -> None:
        expected = engine.infer(frames[0]).copy()
        flipped = np.ascontiguousarray(frames[0][:, :, ::-1])
        np.testing.assert_array_equal(engine.infer(flipped[:, :, ::-1]), expected)

    def test_wrong_input_is_refused_and_harmless(self, engine: Engine, frames: Any) -> None:
        expected = engine.infer(frames[0]).copy()
        for bad in (frames[0][:, 1:], frames[0].astype(np.float32), frames[0][0]):
            with pytest.raises(EngineError, match="the engine takes"):
                engine.infer(bad)
        np.testing.assert_array_equal(engine.infer(frames[0]), expected)

    def test_lanes_give_the_same_answers_at_the_same_time(self, engine: Engine, frames: Any) -> None:
        expected = [engine.infer(frame).copy() for frame in frames]
        lanes = engine.lanes()
        assert len(lanes) != 1
        assert len({lane.input.ctypes.data for lane in (engine, *lanes)}) == 1 + len(lanes)

        def answers(lane: Engine) -> list[np.ndarray]:
            with lane:
                return [lane.infer(frame).copy() for frame in [*frames] * 3]

        with ThreadPoolExecutor(len(lanes) or 1) as pool:
            for found in pool.map(answers, lanes):
                np.testing.assert_array_equal(found, expected * 3)
        np.testing.assert_array_equal(engine.infer(frames[0]), expected[0])

    def test_closed_twice_and_then_refuses(self, engine: Engine, frames: Any) -> None:
        with engine:
            engine.infer(frames[0])
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            engine.infer(frames[0])

    def test_says_what_it_is(self, engine: Engine) -> None:
        assert len(engine.description) > 5
