"""A real Triton serves what was exported: bit-equal answers, several clients, wrong requests, a restart."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.bundle import Bundle
from tests import HANG_S
from tests.serving.conftest import Triton

grpc = pytest.importorskip("tritonclient.grpc", reason="the package tritonclient is not installed")
http = pytest.importorskip("tritonclient.http", reason="the package tritonclient is not installed")


def asked(client: Any, module: Any, frames: np.ndarray) -> np.ndarray:
    given = module.InferInput("frames", list(frames.shape), "UINT8")
    given.set_data_from_numpy(frames)
    return np.asarray(client.infer("street", [given]).as_numpy("classes"))


@pytest.mark.parametrize("module", [grpc, http], ids=["grpc", "http"])
def test_answers_are_equal_to_the_bit(triton: Triton, shipped: Bundle, expected: np.ndarray, module: Any) -> None:
    assert shipped.golden is not None
    frames = shipped.golden.frames
    with module.InferenceServerClient(getattr(triton, module.__name__.rpartition(".")[2])) as client:
        np.testing.assert_array_equal(asked(client, module, frames[:1]), expected[:1])
        np.testing.assert_array_equal(asked(client, module, frames), expected)


def test_frames_and_answers_go_through_shared_memory(triton: Triton, shipped: Bundle, expected: np.ndarray) -> None:
    from tritonclient.utils import shared_memory

    assert shipped.golden is not None
    frames = np.ascontiguousarray(shipped.golden.frames[:1])
    memory = shared_memory.create_shared_memory_region("frames", f"/edgeseg-{os.getpid()}", frames.nbytes)
    try:
        shared_memory.set_shared_memory_region(memory, [frames])
        with grpc.InferenceServerClient(triton.grpc) as client:
            client.register_system_shared_memory("frames", f"/edgeseg-{os.getpid()}", frames.nbytes)
            given = grpc.InferInput("frames", list(frames.shape), "UINT8")
            given.set_shared_memory("frames", frames.nbytes)
            np.testing.assert_array_equal(client.infer("street", [given]).as_numpy("classes"), expected[:1])
            _unregister(client, "frames")
    finally:
        shared_memory.destroy_shared_memory_region(memory)


def _unregister(client: Any, region: str) -> None:
    """The server answers first, and lets go of the memory then."""
    give_up_at = time.monotonic() + HANG_S
    while True:
        try:
            client.unregister_system_shared_memory(region)
            return
        except grpc.InferenceServerException as error:
            if "in use" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)


def test_four_clients_at_once_get_their_own_answers(triton: Triton, shipped: Bundle, expected: np.ndarray) -> None:
    assert shipped.golden is not None
    frames = shipped.golden.frames

    def client(number: int) -> list[bool]:
        with grpc.InferenceServerClient(triton.grpc) as mine:
            places = [(number + turn) % len(frames) for turn in range(3)]
            return [
                np.array_equal(asked(mine, grpc, frames[place : place + 1])[0], expected[place]) for place in places
            ]

    with ThreadPoolExecutor(4) as pool:
        assert all(map(all, pool.map(client, range(4))))


def test_a_wrong_request_is_refused_and_the_next_one_answered(
    triton: Triton, shipped: Bundle, expected: np.ndarray
) -> None:
    assert shipped.golden is not None
    with grpc.InferenceServerClient(triton.grpc) as client:
        with pytest.raises(grpc.InferenceServerException, match="unexpected shape"):
            asked(client, grpc, np.zeros((1, 10, 10, 3), np.uint8))
        with pytest.raises(grpc.InferenceServerException, match="a request holds one frame or more"):
            asked(client, grpc, np.zeros((0, 360, 480, 3), np.uint8))
        np.testing.assert_array_equal(asked(client, grpc, shipped.golden.frames[:1]), expected[:1])


def test_the_server_knows_the_classes_and_the_sizes(triton: Triton, shipped: Bundle) -> None:
    import json

    with grpc.InferenceServerClient(triton.grpc) as client:
        config = client.get_model_config("street", as_json=True)["config"]
        metadata = client.get_model_metadata("street", as_json=True)
    assert json.loads(config["parameters"]["edgeseg_classes"]["string_value"]) == list(shipped.spec.classes)
    assert metadata["inputs"][0]["shape"] == ["-1", "360", "480", "3"]


def test_a_server_that_was_killed_serves_the_same_again(
    repository: Path, shipped: Bundle, expected: np.ndarray
) -> None:
    assert shipped.golden is not None
    for how in (signal.SIGKILL, signal.SIGTERM):
        server = Triton(repository, repository.parent / "again")
        try:
            with grpc.InferenceServerClient(server.grpc) as client:
                np.testing.assert_array_equal(asked(client, grpc, shipped.golden.frames[:1]), expected[:1])
        finally:
            server.stop(how)
    log = (repository.parent / "again").read_text()
    assert "edgeseg: auto takes int8-cpu in " in log and " on the CPU" in log
