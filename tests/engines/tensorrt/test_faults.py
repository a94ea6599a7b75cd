"""Every call into TensorRT and CUDA fails once: one clear error each time, and nothing stays allocated."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.engines.tensorrt.provide import EngineOptions
from edgeseg.errors import EdgesegError
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_frames

BUNDLE = tiny_bundle()
CASES = [(version, integrated, True) for version in VERSIONS for integrated in (True, False)]
CASES += [("8.5.2.2", integrated, False) for integrated in (True, False)]  # with the conversion kernels


def _whole_life(rig: Rig, options: EngineOptions) -> np.ndarray:
    """Build, load, test, run, run two in flight, close."""
    with rig.provider.provide(BUNDLE, "tiny", options).engine as engine:
        first: np.ndarray = engine.infer(tiny_frames(1)).copy()
        engine.submit(tiny_frames(1))
        engine.submit(tiny_frames(1))
        engine.collect()
        np.testing.assert_array_equal(engine.collect(), first)
    return first


@pytest.mark.parametrize(("version", "integrated", "uint8_io"), CASES)
def test_every_failure_point(version: str, integrated: bool, uint8_io: bool, tmp_path: Path) -> None:
    def rig(name: str) -> Rig:
        return Rig(version, tmp_path / name, integrated=integrated, uint8_io=uint8_io)

    healthy = rig("healthy")
    options = EngineOptions(precision="int8" if uint8_io else "fp32")
    expected = _whole_life(healthy, options)
    assert not healthy.leaks()
    calls = healthy.fake.faults.record()
    assert len(calls) > 150 and healthy.module.fake.faults is healthy.fake.faults
    survived: list[str] = []
    for index, call in enumerate(calls):
        broken = rig(f"broken{index}")
        broken.fake.faults.fail_at(index)
        message = _message(broken, options, expected)
        assert broken.fake.faults.failed == [(index, call)], f"{call} was not reached again"
        if message is None:
            survived.append(call)
        else:
            assert "\n" not in message and len(message) > 20, f"{call}: {message!r}"
        assert not broken.fake.default_stream_uses and not broken.fake.aborts, call
        dead = broken.fake.poisoned if hasattr(broken.fake, "poisoned") else False
        left = broken.leaks()
        assert dead or not left or call in _CLEANING_UP, f"{call} left {left}"
    assert not set(survived) - _NOT_NEEDED, sorted(set(survived) - _NOT_NEEDED)


def _message(rig: Rig, options: EngineOptions, expected: np.ndarray) -> str | None:
    """What is said when it fails; None when it did without the call, with the same answer."""
    try:
        np.testing.assert_array_equal(_whole_life(rig, options), expected)
    except EdgesegError as error:
        said = str(error)
        error.__traceback__ = None
        return said
    finally:
        gc.collect()
    return None


_CLEANING_UP: set[str] = set()
"""Calls that give something back: when they fail, that thing cannot be given back."""

_NOT_NEEDED: set[str] = set()
"""Calls without which it goes on, saying so: timing caches, CUDA graphs, the next way to write the graph."""
