"""The lines of ``--show-pipeline``, given to a real shell: GStreamer makes the pipeline of them that edgeseg runs."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Sequence
from urllib.parse import quote

import pytest

from edgeseg.runtime.gst.pipelines import CAPTURE_FLIPS, CAPTURE_FORMATS, CaptureOptions, Pipeline, pipeline_from_uri
from edgeseg.runtime.gst.process import gstreamer_python
from tests import HANG_S

pytestmark = pytest.mark.system
ODD = " \t\n'\"\\;&|<>$`!#*?~^%=,:()[]{}@+-éx"
CUSTOM = [
    "videotestsrc num-buffers=3",
    "videotestsrc pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1",
    'videotestsrc ! capsfilter caps="video/x-raw, format=I420, width=64; image/jpeg" ! identity',
    "filesrc location='/a b' ! decodebin",
    "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv flip-method=2 ! video/x-raw",
    "filesrc location=/a\\ b/it's.mp4 ! decodebin",
    'filesrc location="/a  b/$HOME & `id`; \\"x\\" !.mp4" ! decodebin',
    "filesrc  location = /spaced ! decodebin name=d d.",
    "( videotestsrc ! queue ) ! identity",
    "concat name=c videotestsrc num-buffers=1 ! c. videotestsrc num-buffers=1 ! c. c.",
    "videotestsrc foreground-color=0x11223344 ! identity name=wait;here silent=false",
]


def argv_of(line: str, folder: Path) -> list[str]:
    """What gst-launch-1.0 gets when a shell runs the line."""
    launcher = folder / "gst-launch-1.0"
    launcher.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    launcher.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment, cwd=folder)
    assert done.returncode == 0 and not done.stderr, (line, done.stderr)
    return done.stdout.decode().split("\0")[:-1]


def parsed(items: Sequence[Any]) -> list[Any]:
    script = Path(__file__).with_name("parsed_pipelines.py")
    done = subprocess.run(
        [str(gstreamer_python()), str(script)], input=json.dumps(items), capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout))


def dropping(elements: list[Any]) -> tuple[bool, bool]:
    """Take the two properties of the sink that differ out of a description."""
    (properties,) = [properties for factory, _, properties, _ in elements if factory == "appsink"]
    return properties.pop("drop"), properties.pop("wait-on-eos")


def hold(pipelines: Sequence[Pipeline], folder: Path) -> None:
    """Both parsers see the same pipeline, but for the sink: where nobody takes frames it drops them."""
    lines = [pipeline.shown() for pipeline in pipelines]
    arguments = [argv_of(line, folder) for line in lines]
    assert all(one[0] == "-v" for one in arguments)
    shown = parsed([one[1:] for one in arguments])
    run = parsed([{"text": one.text, "properties": one.properties} for one in pipelines])
    for line, theirs, ours in zip(lines, shown, run):
        assert not isinstance(ours, str), f"{ours}: {line}"
        assert not isinstance(theirs, str), f"{theirs}: {line}"
        assert dropping(theirs) == (True, False) and dropping(ours) == (False, True), line
        assert theirs == ours, line


def test_every_source_with_every_wish(board: Callable[..., None], tmp_path: Path) -> None:
    wishes = [
        CaptureOptions(size_hw=size_hw, flip=flip, jetson=jetson, network_hw=(48, 64))
        for size_hw, flip, jetson in itertools.product((None, (360, 640)), CAPTURE_FLIPS, (False, True))
    ]
    uris = ["rtsp://10.0.0.7:554/main?channel=1&subtype=0", "http://10.0.0.7/live.m3u8?a=1&b=2;c", "file:///a.mp4"]
    pipelines = [pipeline_from_uri(uri, wish) for uri in uris for wish in wishes]
    cameras = [replace(wish, rate=rate) for wish in wishes for rate in (0, 29.97)]
    pipelines += [pipeline_from_uri("csi://1", wish) for wish in cameras]
    pipelines += [
        pipeline_from_uri("v4l2:///dev/video3", replace(wish, format=wanted))
        for wish in cameras
        for wanted in ("", *CAPTURE_FORMATS)
    ]
    hold(pipelines, tmp_path)


@pytest.mark.parametrize("jetson", [False, True])
def test_pipelines_of_the_user(board: Callable[..., None], tmp_path: Path, jetson: bool) -> None:
    hold([pipeline_from_uri(f"gst://{text}", CaptureOptions(jetson=jetson)) for text in CUSTOM], tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_names_that_a_shell_or_gstreamer_could_misread(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = ["".join(chance.choices(ODD, k=chance.randint(1, 12))) for _ in range(60)] + [*ODD, ODD]
    names = [name for name in names if "@" not in name or "://" not in name]  # that would be a password
    uris = [f"file://{quote('/folder/' + name)}" for name in names]
    uris += [f"http://10.0.0.7/{name}" for name in names if not set(name) & set("@[]?#\t\n")]
    hold([pipeline_from_uri(uri) for uri in uris], tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://anna:s3cret%20word@10.0.0.7/main?token=s3cret'x&y=1",
        "http://anna:s3cret@10.0.0.7/a.mjpg?password=s3cret;z",
        'gst://rtspsrc location=rtsp://h/ user-id=anna user-pw="s3cret s3cret" ! decodebin',
        "gst://rtspsrc location=rtsp://h/ user-id=anna user-pw='s3cret s3cret' ! decodebin",
        "gst://rtspsrc location=rtsp://h/ user-id=anna user-pw=s3cret\\ s3cret ! decodebin",
        "gst://rtspsrc location=rtsp://h/ user-id=anna user-pw = s3cret ! decodebin",
        "gst://rtspsrc user-pw=s3cret location=rtsp://anna:s3cret@h/ ! decodebin",
        'gst://rtspsrc location="rtsp://anna:s3cret s3cret@h/" ! decodebin',
        'gst://souphttpsrc location=http://h/ extra-headers="a,Authorization=(string)\\"Bearer s3cret\\"" ! decodebin',
        'gst://souphttpsrc location=http://h/ extra-headers="a,X-Token=\\"s3cret s3cret\\",b=c" ! decodebin',
        "http://h/cgi-bin/video.cgi?loginuse=anna&loginpas=s3cret",
    ],
)
def test_credentials_are_hidden_and_the_line_is_whole(tmp_path: Path, uri: str) -> None:
    line = pipeline_from_uri(uri).shown()
    assert "s3cret" not in line and "***" in line
    (shown,) = parsed([argv_of(line, tmp_path)[1:]])
    assert not isinstance(shown, str), f"{shown}: {line}"


def test_real_gst_launch_runs_what_is_printed(board: Callable[..., None], tmp_path: Path) -> None:
    board(NV_ARGUS="mute", NV_ARGUS_FRAMES=5)
    video = tmp_path / 'it\'s "a" $(clip) & more.mp4'
    chain = [
        "videotestsrc",
        "num-buffers=10",
        "!",
        "video/x-raw,format=I420",
        "!",
        "x264enc",
        "!",
        "mp4mux",
        "!",
        "filesink",
    ]
    subprocess.run(["gst-launch-1.0", "-q", *chain, f"location={tmp_path}/plain.mp4"], check=True, timeout=HANG_S)
    (tmp_path / "plain.mp4").rename(video)
    jetson = CaptureOptions(jetson=True, network_hw=(48, 64))
    for uri, options in (
        ("csi://0", CaptureOptions(rate=30)),
        (f"file://{quote(str(video))}", jetson),
        ("gst://videotestsrc num-buffers=10 ! video/x-raw,width=64,height=48", jetson),
        (f"file://{quote(str(video))}", CaptureOptions(software=True)),
    ):
        if options.software:
            board(GST_PLUGIN_PATH="", GST_REGISTRY=tmp_path / "plain")
        line = pipeline_from_uri(uri, options).shown()
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=HANG_S)
        assert done.returncode == 0, (line, done.stdout[-500:], done.stderr)
        assert "/GstPipeline:pipeline0/GstAppSink:frames" in done.stdout and "format=(string)BGR" in done.stdout


def test_the_command_prints_the_line_and_nothing_else(tmp_path: Path) -> None:
    video = tmp_path / "a & b; $HOME 'x'.mp4"
    video.write_bytes(b"not read")
    command = [
        sys.executable,
        "-m",
        "edgeseg",
        "run",
        "--source",
        str(video),
        "--capture",
        "gstreamer",
        "--show-pipeline",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    arguments = argv_of(done.stdout, tmp_path)
    assert done.stdout.count("\n") == 1 and arguments[:2] == ["-v", "filesrc"] and "!" in arguments
    assert f'location="{video}"' in arguments
