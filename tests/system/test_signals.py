"""Signals end ``edgeseg run`` as a process, whatever hangs. Two seconds are promised; the bounds are wide enough for a
machine that does other things, and far from the ten and more that a wait for each part took."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterator

import cv2
import pytest

from edgeseg.runtime.loop.collector import Collector
from edgeseg.runtime.state import SourceState
from tests import HANG_S
from tests.runtime.test_deadline import connack_only, dripping, server, silent

pytestmark = pytest.mark.system
FAR_S = 8.0
LIVE = "demo://street?fps=10&size=160x120"


@pytest.fixture
def started() -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def start(*words: str, **how: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edgeseg", "run", "--threads", "1", *words]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how))
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.communicate()


def wait_for(path: Path, lines: int = 3) -> None:
    until = time.monotonic() + 60
    while not path.is_file() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < until, f"{path} does not fill"
        time.sleep(0.02)


def wait_for_pictures(video: Path) -> None:
    """Until the encoder, which takes a while to start, has written some: else the two seconds are spent on that."""
    partial, until = video.with_suffix(f".partial{video.suffix}"), time.monotonic() + 60
    while not partial.is_file() or partial.stat().st_size < 10_000:
        assert time.monotonic() < until, f"{partial} does not fill"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    process.send_signal(number)
    asked = time.monotonic()
    said = process.communicate(timeout=HANG_S)
    assert time.monotonic() - asked < FAR_S
    assert "Traceback" not in said[1], said[1]
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_three_signals_end_a_run_with_whole_files(started: Any, tmp_path: Path, number: signal.Signals) -> None:
    log, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    process = started("--json", "--source", LIVE, "--sink", f"jsonl://{log}", "--sink", str(video))
    wait_for(log, 10)
    wait_for_pictures(video)
    out, err = ended(process, number)
    assert process.returncode == 0, err
    assert json.loads(out)["ended"] == "interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.jsonl", "o.mp4"]
    assert cv2.VideoCapture(str(video)).read()[0]


def test_a_signal_to_the_whole_group_still_gives_whole_videos(started: Any, tmp_path: Path) -> None:
    """As a terminal that is closed and systemd send it: to the encoders too."""
    log, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    for number in (signal.SIGHUP, signal.SIGTERM):
        process = started("--source", LIVE, "--sink", f"jsonl://{log}", "--sink", str(video), start_new_session=True)
        wait_for(log, 10)
        wait_for_pictures(video)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=HANG_S)
        assert process.returncode == 0, err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["o.jsonl", "o.mp4"]
        log.unlink()
        video.unlink()


def test_nohup_means_what_it_says(started: Any, tmp_path: Path) -> None:
    log = tmp_path / "o.jsonl"
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = started("--source", LIVE, "--sink", f"jsonl://{log}", preexec_fn=ignore)
    wait_for(log)
    process.send_signal(signal.SIGHUP)
    wait_for(log, log.read_bytes().count(b"\n") + 5)
    ended(process, signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_ends_though_everything_around_it_hangs(started: Any, tmp_path: Path, number: signal.Signals) -> None:
    """Webhooks, a broker, pipes, browsers and sources, all at once."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("paho.mqtt")
    log, fifo, full = tmp_path / "o.jsonl", tmp_path / "p", tmp_path / "q"
    os.mkfifo(fifo)
    os.mkfifo(full)
    reader = os.open(full, os.O_RDONLY | os.O_NONBLOCK)  # there is a reader, who never reads
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with server(silent) as mute, server(dripping) as drips, server(connack_only) as broker:
        actions = [f"http://127.0.0.1:{mute}/", f"http://127.0.0.1:{drips}/", f"mqtt://127.0.0.1:{broker}/a"]
        sinks = [f"jsonl://{log}", f"jsonl://{fifo}", f"csv://{full}", f"mqtt://127.0.0.1:{broker}/t"]
        process = started(
            *(word for _ in range(3) for word in ("--source", LIVE)),
            *("--source", f"http://127.0.0.1:{mute}/video.mjpg"),
            *(word for sink in sinks for word in ("--sink", sink)),
            *(word for action in actions for word in ("--on-alarm", action)),
            *("--alarm", "area(road) >= 0", "--preview", f"127.0.0.1:{port}"),
        )
        wait_for(log, 5)
        browsers = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        for browser in browsers:
            browser.sendall(b"GET /stream/0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")  # and never reads
        ended(process, number)
        for browser in browsers:
            browser.close()
    os.close(reader)
    assert process.returncode in (0, 1)


HUNG = """
import ctypes, sys
from pathlib import Path
import numpy as np
from edgeseg.cli.signals import interrupts
from edgeseg.runtime.loop.pipeline import Run
from edgeseg.runtime.sinks import sink_from_uri
from tests.fakes import ScriptedSource, ThresholdEngine
from tests.runtime.results import context
from edgeseg.spec import ModelSpec
spec = ModelSpec(("road", "car", "sky"), ((128, 64, 128), (64, 0, 128), (128, 128, 128)), (64, 96), ignore_id=9)
class Engine(ThresholdEngine):
    def _run(self):
        if running.state.frames == 5:
            mutex = ctypes.create_string_buffer(64)
            print("hangs", flush=True)
            for _ in range(2):
                ctypes.CDLL(None).pthread_mutex_lock(mutex)  # in a library, where no signal handler of Python runs
        return super()._run()
running = Run(Engine(), spec)
running.add(ScriptedSource([np.full((32, 48, 3), 250, np.uint8)] * 9))
running.add_sink(sink_from_uri(sys.argv[1], context(spec, fps=10)))
with interrupts() as signals:
    signals.hand_over(running)
    running.run()
"""


def test_a_run_ends_though_the_driver_hangs(tmp_path: Path) -> None:
    video = tmp_path / "o.avi"
    process = subprocess.Popen(
        [sys.executable, "-c", HUNG, str(video)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "hangs\n"
        _, err = ended(process, signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1 and "something hangs" in err
    assert [path.name for path in tmp_path.iterdir()] == ["o.avi"], "the sinks finished"
    assert cv2.VideoCapture(str(video)).read()[0]


@pytest.mark.parametrize("when", ["before it starts", "while it runs"])
def test_a_run_ends_though_nobody_reads_what_it_says(started: Any, tmp_path: Path, when: str) -> None:
    """``edgeseg run 2>&1 | less``: whoever prints waits, the last line and the summary too."""
    log = tmp_path / "o.jsonl"
    unread, said = os.pipe()

    def fill() -> None:
        ours = os.open(f"/proc/self/fd/{said}", os.O_WRONLY | os.O_NONBLOCK)  # the child's own end goes on blocking
        with suppress(BlockingIOError):
            while os.write(ours, b"\n" * 4096):
                pass
        with suppress(BlockingIOError):
            while os.write(ours, b"\n"):
                pass
        os.close(ours)

    if when == "before it starts":
        fill()
    command = [sys.executable, "-m", "edgeseg", "run", "--source", LIVE, "--sink", f"jsonl://{log}"]
    process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        if when == "while it runs":
            wait_for(log)
            fill()
        else:
            until = time.monotonic() + 60
            while "pipe_write" not in Path(f"/proc/{process.pid}/wchan").read_text():
                if time.monotonic() > until:
                    pytest.skip("the kernel does not say what a process waits for")
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait(FAR_S)
    finally:
        process.kill()
        process.wait()
        os.close(said)
        os.close(unread)


def test_a_feed_that_ends_while_it_is_looked_for(spec: Any) -> None:
    """Between two looks at which sources still live all may have ended."""

    class Ending:
        def __init__(self) -> None:
            self.looks = iter([True])
            self.state = SourceState("0", "")

        def lives(self) -> bool:
            return next(self.looks, False)

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    collector = Collector()
    feed: Any = Ending()
    collector.add(feed)
    assert collector.close(lambda: False) == []
