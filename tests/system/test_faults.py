"""What happens to cameras, processes and sinks in the field. After each: every frame accounted for, recovery in 5 s."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterator

import cv2
import pytest

from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.loop.feed import Supervision
from edgeseg.runtime.sinks.jsonl import JsonlSink
from edgeseg.runtime.sinks.video import VideoSink
from edgeseg.runtime.sources import source_from_uri
from edgeseg.runtime.sources.gstreamer import GstSource
from edgeseg.spec import ModelSpec
from tests.fakes import CollectingSink
from tests.system.conftest import LIVE, Live, RtspCamera

pytestmark = pytest.mark.system
RECOVERY_S = 5.0
Make = Callable[..., Live]


def test_the_rtsp_server_is_killed_and_comes_back(live: Make, rtsp: RtspCamera) -> None:
    with live([source_from_uri(rtsp.uri)]) as running:
        running.more_frames(20, 10)
        rtsp.kill()
        running.wait(lambda: running.state.sources["0"].status == "restarting", 5, "nobody noticed")
        time.sleep(3)
        rtsp.start()
        running.more_frames(20, RECOVERY_S)
        assert running.state.sources["0"].status == "streaming" and running.state.sources["0"].error == ""
        assert not any("s3cret" in event.text for event in running.state.latest_events())


def test_ten_seconds_of_silence(live: Make, rtsp: RtspCamera) -> None:
    with live([source_from_uri(rtsp.uri)]) as running:
        running.more_frames(20, 10)
        rtsp.process.send_signal(signal.SIGSTOP)
        time.sleep(10)
        noticed = [event.text for event in running.state.latest_events()]
        before = len(running.indices)
        rtsp.process.send_signal(signal.SIGCONT)
        running.more_frames(20, RECOVERY_S)
        assert any("stalled" in text for text in noticed) and before < 400


class Corrupter:
    """A TCP proxy before the RTSP server that damages the media packets of an interleaved stream."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.damage = False
        self.damaged = 0
        self._sockets = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [client, server]
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, media: bool) -> None:
        noise = random.Random(0)
        try:
            while True:
                data = bytearray(source.recv(1 << 16))
                if not data:
                    break
                # Only bodies: a damaged '$' header would be a broken connection, which is another test.
                if media and self.damage and data[0] == 0x24 and len(data) > 40 and noise.random() < 0.5:
                    length = int.from_bytes(data[2:4], "big")
                    for _ in range(8):
                        data[16 + noise.randrange(max(1, min(length, len(data) - 4) - 12))] ^= 0xFF
                    self.damaged += 1
                target.sendall(data)
        except OSError:
            pass
        target.close()

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def test_corrupt_packets(live: Make, rtsp: RtspCamera) -> None:
    proxy = Corrupter(rtsp.port)
    try:
        with live([source_from_uri(rtsp.uri.replace(str(rtsp.port), str(proxy.port)))]) as running:
            running.more_frames(20, 10)
            proxy.damage = True
            running.wait(lambda: proxy.damaged > 20, 20, "nothing was damaged")
            proxy.damage = False
            running.more_frames(30, RECOVERY_S)
    finally:
        proxy.close()


def test_another_resolution_in_mid_stream(live: Make, rtsp: RtspCamera, spec: ModelSpec, tmp_path: Path) -> None:
    video = VideoSink(tmp_path / "o.mp4", Painter(spec))
    with live([source_from_uri(rtsp.uri)], [video]) as running:
        running.more_frames(30, 10)
        rtsp.kill()
        rtsp.start("160x120")
        running.wait(lambda: (120, 160, 3) in running.sizes, RECOVERY_S + 5, "no frame of the new size")
        running.more_frames(20, 5)
    heights = {path.name: cv2.VideoCapture(str(path)).read()[1].shape[0] for path in tmp_path.iterdir()}
    assert heights == {"o.mp4": 240, "o-2.mp4": 120}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """A capture device that can be pulled out: GStreamer's shared-memory camera in a process of its own."""
    started: list[Any] = []

    def plug_in() -> Any:
        (tmp_path / "device").unlink(missing_ok=True)
        sink = f"shmsink socket-path={tmp_path}/device shm-size=8000000 sync=true"
        command = f"gst-launch-1.0 -q {LIVE[6:]},format=I420 ! {sink}"
        process = subprocess.Popen(command.split())
        started.append(process)
        until = time.monotonic() + 5
        while not (tmp_path / "device").exists() and time.monotonic() < until:
            time.sleep(0.01)
        return process

    yield plug_in
    for process in started:
        process.kill()
        process.wait()


def test_a_camera_that_is_pulled_out_and_plugged_in(live: Make, device: Callable[[], Any], tmp_path: Path) -> None:
    caps = "video/x-raw,format=I420,width=320,height=240,framerate=30/1"
    process = device()
    uri = f"gst://shmsrc socket-path={tmp_path}/device is-live=true do-timestamp=true ! {caps}"
    with live([source_from_uri(uri)]) as running:
        running.more_frames(20, 10)
        process.kill()
        process.wait()
        running.wait(lambda: running.state.sources["0"].status == "restarting", 5, "nobody noticed")
        time.sleep(2)
        device()
        running.more_frames(20, RECOVERY_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_gstreamer_process_is_killed_or_stopped(live: Make, number: signal.Signals) -> None:
    source = source_from_uri(LIVE)
    assert isinstance(source, GstSource)
    with live([source]) as running:
        running.more_frames(20, 10)
        first = source.pid
        assert first is not None
        os.kill(first, number)
        # A stopped process is noticed after the stall time (1 s here); its successor delivers within five more.
        running.wait(lambda: source.pid not in (None, first), RECOVERY_S, "nobody noticed")
        running.more_frames(20, RECOVERY_S)
        assert not Path(f"/proc/{first}").exists(), "the old process is still there"
        assert running.state.sources["0"].restarts == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk needs root and mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_under_a_video_and_a_log(live: Make, spec: ModelSpec, small_disk: Path) -> None:
    sinks = [
        VideoSink(small_disk / "o.mp4", Painter(spec)),
        JsonlSink(small_disk / "o.jsonl", spec),
        CollectingSink(),
    ]
    with live([source_from_uri(LIVE)], sinks) as running:
        running.more_frames(40, 10)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        video, log, other = running.state.sinks
        running.wait(lambda: video.status == log.status == "failing", 10, "nobody noticed")
        running.more_frames(30, 5, "a full disk stopped inference")
        assert "free space" in video.error + log.error and other.status == "ok"
        filler.unlink()
        running.wait(lambda: video.status == log.status == "ok", RECOVERY_S, "no recovery")
        running.more_frames(30, 5)
    assert log.written + log.lost["failed"] + log.lost["slow"] == running.state.frames
    assert len((small_disk / "o.jsonl").read_bytes().splitlines()) == log.written
    parts = sorted(small_disk.glob("o*.mp4"), key=lambda path: path.stat().st_mtime)
    assert (parts[0].name, parts[-1].name[:2]) == ("o.partial.mp4", "o-"), "what was whole, and what came after"
    assert cv2.VideoCapture(str(parts[0])).read()[0] and cv2.VideoCapture(str(parts[-1])).read()[0]


def test_the_broker_goes_down_and_comes_back(live: Make, spec: ModelSpec, free_port: int, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        pytest.skip("mosquitto is not installed; sudo make setup-system")
    from edgeseg.runtime.sinks.mqtt import MqttSink

    def broker() -> Any:
        process = subprocess.Popen(
            [shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"), "-p", str(free_port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", free_port)).close()
                return process
            except OSError:
                time.sleep(0.02)
        raise AssertionError("mosquitto does not start")

    process = broker()
    try:
        with live([source_from_uri(LIVE)], [MqttSink(f"mqtt://127.0.0.1:{free_port}/yard", spec)]) as running:
            (sink,) = running.state.sinks
            running.wait(lambda: sink.written > 10, 10, "nothing was sent")
            process.kill()
            process.wait()
            running.wait(lambda: sink.status == "failing", 15, "nobody noticed")
            running.more_frames(30, 5, "a dead broker stopped inference")
            process = broker()
            written = sink.written
            running.wait(lambda: sink.written > written + 5 and sink.status == "ok", RECOVERY_S, "no recovery")
        assert sink.written + sum(sink.lost.values()) == running.state.frames
    finally:
        process.kill()
        process.wait()


def test_several_cameras_one_of_which_dies(live: Make, rtsp: RtspCamera) -> None:
    supervision = Supervision(stall_s=1, max_restarts=2, first_wait_s=0.1, longest_wait_s=0.2)
    with live([source_from_uri(rtsp.uri), source_from_uri(LIVE)], supervision=supervision) as running:
        running.wait(lambda: all(s.segmented > 5 for s in running.state.sources.values()), 10, "no frames")
        rtsp.kill()
        running.wait(lambda: running.state.sources["0"].status == "failed", 15, "it never failed")
        running.more_frames(30, 5, "a dead camera stopped the other")
        assert running.run.add_source(LIVE) == "2"
        running.wait(lambda: running.state.sources["2"].segmented > 5, 10, "the new source brings nothing")


def test_a_child_of_a_killed_run_does_not_live_on(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom edgeseg.runtime.sources import source_from_uri\n"
        f"source = source_from_uri({LIVE!r})\nsource.open()\n"
        "while source.read() is None: pass\nprint(source.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()


def test_what_a_source_started_does_not_outlive_its_run(live: Make) -> None:
    """Hundreds of processes that nobody waits for would take the end of the run its time."""
    released = threading.Event()

    class Stuck(GstSource):
        def close(self) -> None:
            if self.pid is not None:
                released.wait(60)
            super().close()

    made = source_from_uri(LIVE)
    assert isinstance(made, GstSource)
    source = Stuck(made.pipeline, "stuck")
    try:
        with live([source]) as running:
            running.more_frames(3, 30)
            pid = source.pid
        until = time.monotonic() + 30
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < until, "the process lives on"
            time.sleep(0.05)
        assert any("left behind" in event.text for event in running.state.latest_events())
    finally:
        released.set()
        for thread in threading.enumerate():
            if thread.name.startswith("edgeseg-source"):
                thread.join(30)
