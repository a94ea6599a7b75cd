"""CSI cameras through the real capture process and an imitation of NVIDIA's source: it fails by ending."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from edgeseg.errors import SourceError
from edgeseg.runtime.gst.pipelines import CAPTURE_FLIPS, CaptureOptions
from edgeseg.runtime.sources import source_from_uri
from tests import HANG_S
from tests.system.test_gstreamer import frames_of

pytestmark = pytest.mark.system
Board = Callable[..., None]
CUSTOM = (
    "gst://nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! video/x-raw,format=BGRx"
)
FAULTS = [
    ({"NV_CAMERAS": 0}, "not found", "no camera sensor is connected.*ribbon cable"),
    ({"NV_ARGUS": "no-session"}, "busy", "gives no session.*restart nvargus-daemon"),
    ({"NV_ARGUS": "crash"}, "busy", "gives no session"),
    ({"NV_ARGUS": "no-provider"}, "busy", "does not answer; .*restart nvargus-daemon.*/tmp/argus_socket"),
    ({"NV_ARGUS": "TIMEOUT"}, "busy", "does not answer in time"),
    ({"NV_ARGUS": "mute"}, "ended", "stopped and said no reason; journalctl -u nvargus-daemon"),
]


def edgeseg(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeseg", "run", "--threads", "1", *arguments]
    surroundings = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=surroundings)


def fault_of(uri: str) -> SourceError:
    with pytest.raises(SourceError) as said:
        list(frames_of(source_from_uri(uri), 50, seconds=60))
    assert "\n" not in str(said.value)
    return said.value


@pytest.mark.parametrize("flip", CAPTURE_FLIPS)
def test_a_camera_delivers_frames_turned_and_scaled(board: Board, flip: str) -> None:
    source = source_from_uri("csi://0", CaptureOptions(size_hw=(48, 64), flip=flip))
    *_, frame = frames_of(source, 3)
    rows, columns = frame.image.mean(axis=(1, 2)), frame.image.mean(axis=(0, 2))
    edges = {"left": columns[2], "right": columns[-3], "top": rows[2], "bottom": rows[-3]}
    dark = {"rotate-180": "right", "horizontal": "right", "rotate-90": "top", "rotate-270": "bottom"}.get(flip, "left")
    assert min(edges, key=lambda edge: edges[edge]) == dark and "64x48 at 30 fps" in source.description


@pytest.mark.parametrize("uri", ["csi://0", CUSTOM])
@pytest.mark.parametrize(("how", "kind", "words"), FAULTS)
def test_why_a_camera_does_not_open(board: Board, uri: str, how: dict[str, Any], kind: str, words: str) -> None:
    board(**how)
    fault = fault_of(uri)
    assert fault.kind == kind and re.search(words, str(fault)), fault


@pytest.mark.parametrize(("cameras", "highest"), [(1, 0), (3, 2)])
def test_a_number_that_no_camera_has(board: Board, cameras: int, highest: int) -> None:
    board(NV_CAMERAS=cameras)
    fault = fault_of("csi://7")
    assert fault.kind == "not found" and f"no camera csi://7; the highest number is csi://{highest}" in str(fault)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"NV_ARGUS_LATE_MS": 400}, id="late"),
        pytest.param({"NV_ARGUS_NOISE": 5000}, id="before half a megabyte"),
        pytest.param({"GST_DEBUG": "*:4"}, id="behind a log"),
        pytest.param({"NV_ARGUS_FRAMES": 5}, id="after frames"),
        pytest.param({"NV_ARGUS_FRAMES": 5, "NV_ARGUS_LATE_MS": 400}, id="late and after frames"),
    ],
)
def test_the_reason_is_found_wherever_it_is_printed(board: Board, how: dict[str, Any]) -> None:
    board(NV_CAMERAS=0, **how)
    fault = fault_of("csi://0")
    assert fault.kind == "not found" and "ribbon cable" in str(fault)


def test_argus_noise_of_a_library_loaded_in_passing_is_no_reason_of_another_source(
    board: Board, tmp_path: Path
) -> None:
    board(NV_ARGUS="no-provider", GST_REGISTRY=tmp_path / "fresh")  # all plugins are loaded anew, and Argus complains
    source = source_from_uri("rtsp://127.0.0.1:9/x")
    with pytest.raises(SourceError) as said:
        list(frames_of(source, 1, seconds=60))
    assert said.value.kind == "unreachable" and "argus" not in str(said.value)


def test_another_source_that_prints_and_ends_is_told_with_what_it_printed() -> None:
    picture = "video/x-raw,format=GRAY8,width=16,height=2"
    fault = fault_of(f"gst://videotestsrc is-live=true pattern=black ! {picture} ! identity dump=true eos-after=3")
    assert fault.kind == "ended" and "its process printed: 00000010" in str(fault)
    quiet = fault_of(f"gst://videotestsrc is-live=true ! {picture} ! identity eos-after=3")
    assert quiet.kind == "ended" and "printed" not in str(quiet)


@pytest.mark.parametrize(
    ("how", "words"), [({"NV_CAMERAS": "0"}, "ribbon cable"), ({"NV_ARGUS": "no-session"}, "session")]
)
def test_a_run_without_its_camera_is_one_line(board: Board, how: dict[str, str], words: str) -> None:
    done = edgeseg("--source", "csi://0", "--sink", "null://", **how)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("edgeseg: csi://0 does not open: ") and words in last, done.stderr


@pytest.fixture
def sudo(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment with a sudo that notes how it was called and then does what it is told."""

    def make(body: str) -> dict[str, str]:
        script = tmp_path / "bin" / "sudo"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n{body}\n')
        script.chmod(0o755)
        (tmp_path / "argus").write_text("no-session\n")
        path = f"{script.parent}:{os.environ['PATH']}"
        return {"PATH": path, "NV_ARGUS": f"@{tmp_path}/argus", "NV_CAMERAS": "2"}

    return make


@pytest.mark.parametrize("restarts", [[], ["--max-restarts", "4"]])
@pytest.mark.parametrize("cameras", [1, 2])
def test_a_wedged_daemon_is_restarted_once_where_that_is_allowed(
    board: Board, sudo: Callable[[str], dict[str, str]], tmp_path: Path, cameras: int, restarts: list[str]
) -> None:
    environment = sudo(f": > {tmp_path}/argus")
    sources = [word for number in range(cameras) for word in ("--source", f"csi://{number}")]
    how = ["--sink", "null://", "--frames", "6", "--json", *restarts]
    done = edgeseg(*sources, *how, "--argus-restart", **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 6
    assert (tmp_path / "calls").read_text() == "-n systemctl restart nvargus-daemon\n"
    (tmp_path / "calls").unlink()
    (tmp_path / "argus").write_text("no-session\n")
    assert edgeseg(*sources, *how, **environment).returncode == 1, "nobody allowed it"
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo a password is required >&2; exit 1", "a password is required"),
        ("exit 5", "exit status 5"),
        (":", "session"),
    ],
)
def test_a_restart_that_fails_or_does_not_help_ends_the_run(
    board: Board, sudo: Callable[[str], dict[str, str]], tmp_path: Path, body: str, words: str
) -> None:
    done = edgeseg("--source", "csi://0", "--sink", "null://", "--argus-restart", **sudo(body))
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("edgeseg: csi://0 does not open: the argus daemon")
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_other_faults_do_not_restart_the_daemon(
    board: Board, sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    environment = {**sudo(":"), "NV_CAMERAS": "0", "NV_ARGUS": ""}
    assert edgeseg("--source", "csi://0", "--sink", "null://", "--argus-restart", **environment).returncode == 1
    assert not (tmp_path / "calls").exists()
