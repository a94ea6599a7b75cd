"""What the system tests share: a camera on the network, and a run in a thread of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from edgeseg.runtime.gst.process import gstreamer_python
from edgeseg.runtime.loop.feed import Supervision
from edgeseg.runtime.loop.pipeline import LoopOptions, Run
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sources import FrameSource
from edgeseg.runtime.state import RunState
from edgeseg.spec import ModelSpec
from tests import HANG_S
from tests.fakes import ThresholdEngine

CAMERA = Path(__file__).with_name("rtsp_camera.py")
LIVE = "gst://videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1"


@pytest.fixture(autouse=True)
def needs_gstreamer() -> None:
    if gstreamer_python() is None:
        pytest.skip("GStreamer is not installed; sudo make setup-system")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspCamera:
    """GStreamer's RTSP server in a process; user anna, password 's3cret word'."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.uri = f"rtsp://anna:s3cret%20word@127.0.0.1:{port}/main"
        self.process: Any = None

    def start(self, size: str = "320x240", codec: str = "h264") -> None:
        command = [str(gstreamer_python()), str(CAMERA), str(self.port), codec, size]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            pytest.skip("no RTSP server; sudo make setup-system")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def rtsp(free_port: int) -> Iterator[RtspCamera]:
    camera = RtspCamera(free_port)
    camera.start()
    yield camera
    camera.kill()


class Live:
    """A run in a thread, and what a test asks of it."""

    def __init__(self, spec: ModelSpec, sources: list[FrameSource], sinks: list[FrameSink], **how: Any) -> None:
        engine = how.pop("engine", None) or ThresholdEngine()
        quick = Supervision(stall_s=1.0, first_wait_s=0.1, longest_wait_s=1.0)
        self.indices: list[tuple[str, int]] = []
        self.ages_ms: list[float] = []
        self.sizes: list[tuple[int, ...]] = []
        self.run = Run(engine, spec, LoopOptions(**{"supervision": quick, **how}), on_frame=self._on_frame)
        for source in sources:
            self.run.add(source)
        for sink in sinks:
            self.run.add_sink(sink)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._work, name="test-run")

    @property
    def state(self) -> RunState:
        return self.run.state

    def _on_frame(self, state: RunState, result: Any) -> None:
        self.indices.append((result.frame.source, result.frame.index))
        self.ages_ms.append((time.perf_counter_ns() - result.frame.captured_ns) / 1e6)
        self.sizes.append(result.frame.image.shape)

    def _work(self) -> None:
        try:
            self.run.run()
        except BaseException as error:
            self.failure = error

    def __enter__(self) -> Live:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.run.stop("stopped")
        self.thread.join(HANG_S)
        assert not self.thread.is_alive(), "the run did not end"
        for source in self.state.sources.values():
            dropped = sum(source.dropped.values())
            assert source.produced == source.segmented + dropped, source.to_json()
        assert len(set(self.indices)) == len(self.indices), "a frame was used twice"

    def wait(self, what: Callable[[], bool], seconds: float, why: str) -> float:
        """Wait for something to become true; the seconds it took."""
        started = time.monotonic()
        while not what():
            assert self.thread.is_alive(), f"the run ended: {self.failure}"
            assert time.monotonic() - started < seconds, f"{why}: {[str(e.text) for e in self.state.latest_events()]}"
            time.sleep(0.02)
        return time.monotonic() - started

    def more_frames(self, count: int, seconds: float, why: str = "no more frames") -> float:
        """Wait for so many more frames."""
        wanted = len(self.indices) + count
        return self.wait(lambda: len(self.indices) >= wanted, seconds, why)


@pytest.fixture
def live(spec: ModelSpec) -> Callable[..., Live]:
    def make(sources: list[FrameSource], sinks: list[FrameSink] | None = None, **how: Any) -> Live:
        return Live(spec, sources, sinks or [], **how)

    return make


@pytest.fixture(scope="session")
def imitations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with NVIDIA's elements and a webcam as GStreamer plugins, and the registry that knows them."""
    folder = tmp_path_factory.mktemp("imitations")
    compiler, packages = shutil.which("cc"), ["gstreamer-video-1.0", "gstreamer-base-1.0"]
    if compiler is None or shutil.which("pkg-config") is None:
        pytest.skip("no C compiler or no pkg-config; sudo make setup-system")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", *packages], capture_output=True, text=True)
    if flags.returncode:
        pytest.skip("GStreamer's headers are not installed; sudo make setup-system")
    for source, library in (
        ("nvidia_elements.c", "plugins/libgstnvidiaelements.so"),
        ("webcam.c", "webcam/libgstvideo4linux2.so"),
    ):
        (folder / library).parent.mkdir()
        command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(folder / library)]
        subprocess.run([*command, str(Path(__file__).with_name(source)), *flags.stdout.split()], check=True)
    environment = {**os.environ, "GST_PLUGIN_PATH": str(folder / "plugins"), "GST_REGISTRY": str(folder / "registry")}
    for element in ("nvarguscamerasrc", "nvvidconv", "nvv4l2h264enc", "nvv4l2decoder", "nvjpegdec"):
        subprocess.run(["gst-inspect-1.0", element], env=environment, check=True, capture_output=True)
    return folder


@pytest.fixture
def board(imitations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A board's GStreamer for the child processes of this test; called, it says how the hardware behaves."""
    registry = tmp_path / "gstreamer-registry"
    shutil.copy(imitations / "registry", registry)
    monkeypatch.setenv("GST_PLUGIN_PATH", str(imitations / "plugins"))
    monkeypatch.setenv("GST_REGISTRY", str(registry))

    def behave(**how: object) -> None:
        for name, value in how.items():
            monkeypatch.setenv(name, str(value))

    return behave


@pytest.fixture
def webcam(
    board: Callable[..., None], imitations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """A board with a webcam; called, it says how that behaves."""
    # Its library has the name of GStreamer's own; what is found first takes the place of the other.
    monkeypatch.setenv("GST_PLUGIN_PATH", f"{imitations / 'webcam'}:{imitations / 'plugins'}")
    monkeypatch.setenv("GST_REGISTRY", str(tmp_path / "webcam-registry"))
    return board
