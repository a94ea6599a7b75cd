"""Cameras through a server: the contract of every engine, a server that dies and comes back, wrong addresses."""

from __future__ import annotations

import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeseg
from edgeseg.bundle import Bundle
from edgeseg.engines.base import Engine
from edgeseg.engines.triton import TritonEngine
from edgeseg.errors import EngineError, GateRefused, UsageError
from tests import HANG_S
from tests.cli.test_cli import edgeseg as command
from tests.cli.test_cli import refused
from tests.engine_contract import EngineContract
from tests.serving.conftest import Triton

pytest.importorskip("tritonclient.grpc", reason="the package tritonclient is not installed")
SIZE = (360, 480)


class TestTritonEngine(EngineContract):
    @pytest.fixture
    def engine(self, triton: Triton) -> Engine:
        return TritonEngine(f"triton://{triton.grpc}/street", SIZE)

    @pytest.fixture
    def frames(self, shipped: Bundle) -> list[np.ndarray]:
        assert shipped.golden is not None
        return [shipped.golden.frames[index : index + 1] for index in (0, 1)]


def test_a_server_gives_the_masks_of_this_machine(triton: Triton, shipped: Bundle, expected: np.ndarray) -> None:
    assert shipped.golden is not None
    lines: list[str] = []
    options = edgeseg.EngineOptions(engine=f"triton://{triton.grpc}/street/1")
    with edgeseg.open_engine(shipped, options, on_note=lines.append) as engine:
        for frame, classes in zip(shipped.golden.frames, expected):
            np.testing.assert_array_equal(engine.infer(frame[None])[0], classes)
    assert lines[0].startswith("self-test: ") and "Triton at triton://" in engine.description


def test_a_run_goes_on_when_the_server_comes_back_and_counts_every_frame(repository: Path) -> None:
    first = Triton(repository, repository.parent / "dies")
    servers, seen = [first], []

    def restart() -> None:
        first.stop(signal.SIGKILL)
        servers.append(Triton(repository, repository.parent / "dies", int(first.grpc.split(":")[1])))

    def watch(result: edgeseg.Segmentation) -> None:
        seen.append(result.frame.index)
        if len(seen) == 5:
            threading.Thread(target=restart).start()

    engine = edgeseg.EngineOptions(engine=f"triton://{first.grpc}/street")
    config = edgeseg.RunConfig(sources=["demo://street?frames=150&fps=10"], engine=engine)
    try:
        summary = edgeseg.run(config, on_result=watch)
    finally:
        servers[-1].stop()
    (source,) = summary["sources"]
    dropped = sum(source["dropped"].values())
    assert len(servers) == 2 and len(seen) > 10 and dropped > 5
    assert source["segmented"] == len(seen) and source["produced"] == len(seen) + dropped, source
    assert source["status"] == "ended"


def test_a_server_that_stays_away_ends_the_run_after_a_while(repository: Path, shipped: Bundle) -> None:
    server = Triton(repository, repository.parent / "away")
    pauses: list[float] = []
    engine = TritonEngine(
        f"triton://{server.grpc}/street", SIZE, patience_s=1, sleep=lambda s: pauses.append(s) or time.sleep(s)
    )
    server.stop(signal.SIGKILL)
    with engine, pytest.raises(EngineError, match="/street does not answer for 1 s: "):
        engine.infer(engine.input)
    assert pauses


def test_a_server_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and says nothing, as behind a firewall."""
    import edgeseg.engines.triton as module

    monkeypatch.setattr(module, "_ANSWER_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(EngineError, match="does not answer"):
            TritonEngine(f"triton://127.0.0.1:{silent.getsockname()[1]}/street", SIZE)
        assert time.monotonic() - began < HANG_S


@pytest.mark.parametrize(
    "address",
    ["triton://", "triton://host", "triton://host/", "triton://h:99999/m", "triton://u:p@h/m", "triton://h/m/x"],
)
def test_what_is_no_address_is_refused(address: str, shipped: Bundle) -> None:
    with pytest.raises(UsageError, match="`engine` of a server is triton://HOST:PORT/MODEL") as caught:
        edgeseg.open_engine(shipped, address)
    assert "u:p" not in str(caught.value)


def test_another_model_or_size_is_refused(triton: Triton, shipped: Bundle) -> None:
    with pytest.raises(EngineError, match="/none refused: .*unknown model"):
        edgeseg.open_engine(shipped, f"triton://{triton.grpc}/none")
    with pytest.raises(EngineError, match="takes frames of 480x360, and the bundle says 96x64"):
        TritonEngine(f"triton://{triton.grpc}/street", (64, 96))
    assert shipped.golden is not None
    other = replace(shipped, golden=replace(shipped.golden, classes=(shipped.golden.classes + 1) % 11))
    with pytest.raises(GateRefused, match="self-test failed: Triton at"):
        edgeseg.open_engine(other, f"triton://{triton.grpc}/street")


def test_the_command_takes_an_address_and_refuses_what_goes_not_with_it(triton: Triton, tmp_path: Path) -> None:
    engine = f"triton://{triton.grpc}/street"
    run = ("run", "street", "--source", "demo://street?frames=2", "--engine")
    done = command(*run, engine, cwd=tmp_path)
    assert done.returncode == 0 and f"Triton at {engine}" in done.stdout, done.stderr
    assert "`graph`" not in refused(*run, engine, "--graph", "fp32", cwd=tmp_path, code=2)
    assert "one of auto, onnxruntime" in refused(*run, "triton:/x", cwd=tmp_path, code=2)
    assert "does not answer" in refused(*run, "triton://127.0.0.1:9/street", cwd=tmp_path)
