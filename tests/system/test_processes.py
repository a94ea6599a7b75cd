"""``edgeseg run`` as a process: signals, kill -9, a clock that jumps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator

import cv2
import pytest

from edgeseg.images import read_mask
from tests import HANG_S

pytestmark = pytest.mark.system
LIVE = "gst://videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1"


def started(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgeseg", "run", "--threads", "1", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def wait_for_lines(path: Path, count: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.is_file() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < until, f"{path} has fewer than {count} lines after {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def process() -> Iterator[list[Any]]:
    running: list[Any] = []
    yield running
    for one in running:
        one.kill()
        print(one.communicate()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_ends_a_run_in_two_seconds_and_loses_nothing(
    tmp_path: Path, process: list[Any], number: signal.Signals
) -> None:
    log, video, recording = tmp_path / "o.jsonl", tmp_path / "o.mp4", tmp_path / "o.edgerec"
    sinks = ["--sink", f"jsonl://{log}", "--sink", str(video), "--sink", str(tmp_path / "masks")]
    sources = ["--source", LIVE, "--source", "demo://street?fps=10"]
    process.append(started("--json", *sources, *sinks, "--sink", f"record://{recording}"))
    wait_for_lines(log, 40)
    tasks = Path(f"/proc/{process[0].pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    process[0].send_signal(number)
    asked = time.monotonic()
    out, said = process[0].communicate(timeout=20)
    assert time.monotonic() - asked < 2.5, "2 s, and half a one for the interpreter's own end"
    assert process[0].returncode == 0, said
    summary = json.loads(out)
    assert summary["ended"] == "interrupted"
    for source in summary["sources"]:
        assert source["produced"] == source["segmented"] + sum(source["dropped"].values())
    for sink in summary["sinks"]:
        assert sink["written"] + sum(sink["lost"].values()) == summary["frames"], sink
    assert log.read_bytes().count(b"\n") == summary["sinks"][0]["written"]
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"o-0.mp4", "o-1.mp4"}
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(("-wal", "-shm", ".tmp"))]
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)


def test_pull_the_plug(tmp_path: Path, process: list[Any]) -> None:
    log, video, masks, recording = (tmp_path / name for name in ("o.jsonl", "o.mp4", "masks", "o.edgerec"))
    sinks = [
        item
        for sink in (f"jsonl://{log}", str(video), str(masks), f"record://{recording}")
        for item in ("--sink", sink)
    ]
    process.append(started("--source", LIVE, *sinks))
    wait_for_lines(log, 60)
    process[0].kill()
    process[0].wait()
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert len(lines) >= 60 and log.read_bytes().endswith(b"\n")
    pictures = cv2.VideoCapture(str(tmp_path / "o.partial.mp4"))
    count = 0
    while pictures.read()[0]:
        count += 1
    assert count >= len(lines) - 25, "all but the latest fragments of half a second"
    read = [read_mask(path) for path in sorted((masks / "masks").glob("*.png"))]
    assert len(read) >= len(lines) - 5 and all(mask.shape == (240, 320) for mask in read)
    replay = subprocess.run(
        [sys.executable, "-m", "edgeseg", "run", "--source", f"replay://{recording}", "--sink", "null://", "--json"],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert replay.returncode == 0, replay.stderr
    summary = json.loads(replay.stdout)
    assert summary["frames"] >= len(lines) - 5, "what the recorder had acknowledged"
    # The same frames by the same graph: the same class maps.
    assert summary["replay"]["frames"] == summary["frames"] and summary["replay"]["agreement"] == 1.0
    again = subprocess.run(
        [sys.executable, "-m", "edgeseg", "run", "--source", "demo://street?frames=3", "--sink", str(video)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "o.partial-1.mp4").exists(), "the next run keeps what the killed one left"


def test_a_clock_that_jumps_disturbs_nothing(tmp_path: Path, process: list[Any]) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler; sudo make setup-system")
    library, clock, log, alarms = (tmp_path / name for name in ("step.so", "step", "o.jsonl", "alarms.jsonl"))
    source = str(Path(__file__).with_name("clock_step.c"))
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), source], check=True)
    clock.write_bytes(bytes(8))
    environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_STEP": str(clock)}
    rule = ["--alarm", "area(sky) >= 0% for 4 s", "--on-alarm", f"jsonl:{alarms}"]
    policy = ["--deadline-ms", "1500", *rule]
    process.append(started("--json", "--source", LIVE, "--sink", f"jsonl://{log}", *policy, env=environment))
    with clock.open("r+b", buffering=0) as file:
        for lines, step_s in ((15, -86400), (45, 86400), (75, -3600)):
            wait_for_lines(log, lines)
            file.seek(0)
            file.write(step_s.to_bytes(8, sys.byteorder, signed=True))
        wait_for_lines(log, 100)
    process[0].send_signal(signal.SIGTERM)
    out, said = process[0].communicate(timeout=20)
    assert process[0].returncode == 0, said
    summary = json.loads(out)
    assert summary["sources"][0]["restarts"] == 0 and "stale" not in summary["sources"][0]["dropped"]
    assert summary["ms"]["age"]["max_ms"] < 1500 and list(summary["alarms"]["raised"].values()) == [1]
    raised = datetime.fromisoformat(json.loads(alarms.read_text().splitlines()[0])["at"])
    assert abs(time.time() - raised.timestamp()) > 3000, "the steps did not reach the process"


def test_readiness_and_watchdog_reach_systemd_s_socket(tmp_path: Path, process: list[Any]) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        process.append(started("--source", LIVE, "--sink", "null://", env=environment))
        heard = [manager.recv(4096).decode() for _ in range(4)]
        process[0].send_signal(signal.SIGTERM)
        process[0].communicate(timeout=20)
        while "STOPPING=1" not in heard[-1]:
            heard.append(manager.recv(4096).decode())
    ready = [text for text in heard if "READY=1" in text]
    assert len(ready) == 1 and sum("WATCHDOG=1" in text for text in heard) >= 2


def test_no_camera_and_no_gstreamer_plugin_are_one_line(tmp_path: Path) -> None:
    for source in ("rtsp://me:hunter2@127.0.0.1:9/x", "csi://0", "97", "gst://nosuchelement"):
        process = started("--source", source)
        _, said = process.communicate(timeout=HANG_S)
        last = said.strip().splitlines()[-1]
        assert process.returncode == 1 and last.startswith("edgeseg: ") and "Traceback" not in said, said
        assert "hunter2" not in said
    assert shutil.which("gst-launch-1.0")
