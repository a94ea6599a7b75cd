"""Elements that are registered though their hardware is not there: encoders, decoders, converters; real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

import cv2
import numpy as np
import pytest

from edgeseg.errors import SinkError, SourceError, UsageError
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.gst.output import GstOutput
from edgeseg.runtime.gst.pipelines import CaptureOptions, pipeline_from_uri
from edgeseg.runtime.sinks.rtsp import RtspSink
from edgeseg.runtime.sinks.video import VideoSink
from edgeseg.runtime.sources import source_from_uri
from edgeseg.runtime.sources.gstreamer import GstSource
from edgeseg.spec import ModelSpec
from tests import HANG_S
from tests.runtime.results import segmentation
from tests.system.conftest import LIVE, Live
from tests.system.test_gstreamer import frames_of

pytestmark = pytest.mark.system
STORED = "gst://videotestsrc num-buffers=12 ! video/x-raw,width=320,height=240"
Board = Callable[..., None]
JETSON = CaptureOptions(jetson=True, network_hw=(48, 64))
ABSENT = [
    pytest.param("null-ready", "Cannot identify device '/dev/v4l2-nvenc'", id="not even opened"),
    pytest.param("ready-paused", "does not support any format", id="does not start"),
    pytest.param("caps", "not-negotiated", id="takes no caps"),
    pytest.param("buffer=1", "Failed to process frame", id="fails at the first picture"),
    pytest.param("buffer=2", "Failed to process frame", id="fails at the second"),
    pytest.param("crash", "killed by signal 6", id="crashes"),
]


def results(count: int, size_hw: tuple[int, int] = (240, 320)) -> Iterator[Segmentation]:
    for index in range(count):
        yield segmentation(np.full(size_hw, index % 3, np.uint8), index, captured_ns=index * 40_000_000)


def pictures_in(path: Path) -> int:
    video, count = cv2.VideoCapture(str(path)), 0
    while video.read()[0]:
        count += 1
    return count


def test_a_working_hardware_encoder_is_used(board: Board, spec: ModelSpec, tmp_path: Path) -> None:
    with VideoSink(tmp_path / "o.mp4", Painter(spec)) as sink:
        for result in results(20):
            sink.write(result)
    assert sink.description.endswith("H.264 by nvv4l2h264enc") and not sink.remark
    assert pictures_in(tmp_path / "o.mp4") == 20


@pytest.mark.parametrize(("mode", "why"), ABSENT)
def test_an_encoder_that_does_not_work_is_passed_over_and_no_picture_is_lost(
    board: Board, spec: ModelSpec, tmp_path: Path, mode: str, why: str
) -> None:
    board(NV_ENC=mode)
    with VideoSink(tmp_path / "o.mkv", Painter(spec)) as sink:
        for result in [*results(10), *results(10, (120, 160))]:  # the second part does not try it again
            sink.write(result)
    assert sink.description.endswith("H.264 by x264enc")
    assert sink.remark.startswith("nvv4l2h264enc does not work here (") and why in sink.remark
    assert [pictures_in(path) for path in sorted(tmp_path.glob("o*.mkv"), reverse=True)] == [10, 10]


def test_an_encoder_that_hangs_is_passed_over(board: Board, spec: ModelSpec, tmp_path: Path) -> None:
    board(NV_ENC="hang")
    with VideoSink(tmp_path / "o.mp4", Painter(spec)) as sink:
        for result in results(5):
            sink.write(result)
    assert "x264enc" in sink.description and "does not finish" in sink.remark and pictures_in(tmp_path / "o.mp4") == 5


def test_a_converter_that_does_not_work_takes_its_encoder_with_it(
    board: Board, spec: ModelSpec, tmp_path: Path
) -> None:
    board(NV_VIDCONV="null-ready")
    with VideoSink(tmp_path / "o.mp4", Painter(spec)) as sink:
        for result in results(5):
            sink.write(result)
    assert "/dev/nvhost-vic" in sink.remark and pictures_in(tmp_path / "o.mp4") == 5


@pytest.mark.parametrize("after", [5, 9, 20])
def test_an_encoder_that_fails_later_is_one_error_with_its_losses_and_the_next_part_has_another(
    board: Board, spec: ModelSpec, tmp_path: Path, after: int
) -> None:
    board(NV_ENC=f"buffer={after}")
    sink = VideoSink(tmp_path / "o.mp4", Painter(spec))
    kept, lost = 0, 0
    for result in results(60):
        try:
            sink.write(result)
            kept += 1
        except SinkError as error:
            assert "nvv4l2h264enc: Failed to process frame." in str(error) and "\n" not in str(error)
            lost += 1 + error.lost
            kept -= error.lost
    sink.close()
    assert sink.description.endswith("H.264 by x264enc") and kept + lost == 60
    assert kept == sink.kept <= sum(pictures_in(path) for path in tmp_path.iterdir())
    assert lost < 40, "it was noticed soon"


def test_a_live_run_goes_on_when_its_encoder_fails(
    board: Board, live: Callable[..., Live], spec: ModelSpec, tmp_path: Path
) -> None:
    board(NV_ENC="buffer=20")
    with live([source_from_uri(LIVE)], [VideoSink(tmp_path / "o.mp4", Painter(spec))]) as running:
        (sink,) = running.state.sinks
        running.wait(lambda: sink.description.endswith("x264enc") and sink.written > 20, 20, "no other encoder")
        told = [event.text for event in running.state.latest_events()]
        assert any(
            "nvv4l2h264enc does not work here (Failed to process frame.); x264enc encodes" in text for text in told
        )


def test_without_any_encoder_it_is_said_what_was_tried_and_what_to_install(board: Board, tmp_path: Path) -> None:
    board(NV_ENC="null-ready")
    config = {"kind": "file", "path": str(tmp_path / "o.mp4"), "gop": 15, "kbps": 500}
    refused = {"x264enc": "it is not wanted", "openh264enc": "nor is it"}
    with pytest.raises(SinkError, match="no H.264 encoder.*gstreamer1.0-plugins-ugly") as said:
        GstOutput("o.mp4", (48, 64), config, refused)
    for encoder, why in (
        ("nvv4l2h264enc", "/dev/v4l2-nvenc"),
        ("x264enc", "it is not wanted"),
        ("openh264enc", "nor is it"),
    ):
        assert encoder in str(said.value) and why in str(said.value)


@pytest.mark.parametrize("mode", ["", "null-ready", "buffer=1"])
def test_an_rtsp_server_falls_through_too(board: Board, spec: ModelSpec, free_port: int, mode: str) -> None:
    board(NV_ENC=mode)
    uri = f"rtsp://127.0.0.1:{free_port}/edgeseg"
    sink, stop = RtspSink(uri, Painter(spec)), threading.Event()

    def show() -> None:
        number = 0
        while not stop.wait(0.03):
            number += 1
            sink.write(segmentation(np.full((240, 320), number % 3, np.uint8), number))

    sink.write(segmentation(np.zeros((240, 320), np.uint8)))
    writer = threading.Thread(target=show)
    writer.start()
    try:
        seen = list(frames_of(source_from_uri(uri, JETSON), 5, seconds=30))
    finally:
        stop.set()
        writer.join()
        sink.close()
    assert len(seen) == 5 and seen[0].image.shape == (48, 64, 3)
    assert sink.description.endswith("x264enc" if mode else "nvv4l2h264enc") and bool(sink.remark) == bool(mode)


@pytest.mark.parametrize("after", [5, 20])
def test_an_encoder_that_fails_while_clients_watch_is_one_error_and_then_there_is_another(
    board: Board, spec: ModelSpec, free_port: int, after: int
) -> None:
    board(NV_ENC=f"buffer={after}")
    uri = f"rtsp://127.0.0.1:{free_port}/edgeseg"
    sink, stop = RtspSink(uri, Painter(spec)), threading.Event()
    failures: list[str] = []

    def show() -> None:
        number = 0
        while not stop.wait(0.03):
            number += 1
            try:
                sink.write(segmentation(np.full((240, 320), number % 3, np.uint8), number))
            except SinkError as error:
                failures.append(str(error))
        sink.close()  # by the thread that wrote: an encoder ends with whoever started it

    writer = threading.Thread(target=show)
    writer.start()
    try:
        _await(lambda: "H.264 by" in sink.description, failures)
        with pytest.raises(SourceError):
            list(frames_of(source_from_uri(uri, JETSON), seconds=60))
        _await(lambda: sink.description.endswith("x264enc"), failures)
        seen = list(frames_of(source_from_uri(uri, JETSON), 5, seconds=60))
    finally:
        stop.set()
        writer.join()
    assert len(seen) == 5 and "x264enc encodes" in sink.remark
    assert len(failures) == 1 and "nvv4l2h264enc: Failed to process frame." in failures[0]


def _await(is_so: Callable[[], bool], said: list[str]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until, said
        time.sleep(0.05)


def test_a_run_says_which_encoder_it_used(board: Board, tmp_path: Path) -> None:
    board(NV_ENC="null-ready")
    command = [sys.executable, "-m", "edgeseg", "run", "--threads", "1", "--json", "--source", STORED]
    command += ["--sink", str(tmp_path / "o.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    (sink,) = json.loads(done.stdout)["sinks"]
    assert sink["written"] == 12 == pictures_in(tmp_path / "o.mp4") and "H.264 by x264enc" in sink["description"]
    assert done.stderr.count("nvv4l2h264enc does not work here") == 1


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    picture = "video/x-raw,format=I420,width=320,height=240,framerate=30/1"
    chain = f"videotestsrc num-buffers=20 ! {picture} ! x264enc ! mp4mux ! filesink location={path}"
    subprocess.run(["gst-launch-1.0", "-q", *chain.split()], check=True, timeout=HANG_S)
    return path


def test_the_hardware_decodes_and_scales(board: Board, video: Path) -> None:
    source = source_from_uri(str(video), JETSON)
    assert {frame.image.shape for frame in frames_of(source)} == {(48, 64, 3)}
    assert source.description.endswith("through GStreamer, decoded by nvv4l2decoder")


def test_a_decoder_without_its_device_is_passed_over_and_that_is_said(board: Board, video: Path) -> None:
    board(NV_DEC="null-ready")
    source = source_from_uri(str(video), JETSON)
    assert sum(1 for _ in frames_of(source)) == 20
    assert source.description.endswith("decoded by avdec_h264 (nvv4l2decoder does not work here)")


@pytest.mark.parametrize(
    ("how", "element"),
    [
        ({"NV_DEC": "buffer=1"}, "nvv4l2decoder"),
        ({"NV_DEC": "buffer=7"}, "nvv4l2decoder"),
        ({"NV_VIDCONV": "null-ready"}, "nvvidconv"),
        ({"NV_VIDCONV": "ready-paused"}, "nvvidconv"),
        ({"NV_VIDCONV": "buffer=1"}, "nvvidconv"),
    ],
)
def test_an_element_that_fails_is_named_and_the_way_without_it(
    board: Board, video: Path, how: dict[str, Any], element: str
) -> None:
    board(**how)
    with pytest.raises(SourceError, match=f"{element} does not work here: .*`capture` software") as said:
        list(frames_of(source_from_uri(str(video), JETSON)))
    assert said.value.kind == "missing" and "--runtime nvidia" in str(said.value)
    source = source_from_uri(str(video), JETSON, "software")
    assert sum(1 for _ in frames_of(source)) == 20 and source.description.endswith("decoded by avdec_h264")


def test_a_container_without_nvidia_s_plugins(video: Path) -> None:
    with pytest.raises(SourceError, match="GStreamer has no nvvidconv; .*--runtime nvidia.*`capture` software") as said:
        list(frames_of(source_from_uri(str(video), JETSON)))
    assert said.value.kind == "missing"
    assert sum(1 for _ in frames_of(source_from_uri(str(video), JETSON, "software"))) == 20
    with pytest.raises(UsageError, match="csi:// goes through NVIDIA's elements only"):
        source_from_uri("csi://0", JETSON, "software")


@pytest.mark.parametrize("options", [JETSON, CaptureOptions()], ids=["board", "pc"])
@pytest.mark.parametrize(("camera", "wish"), [("mjpeg", "mjpeg"), ("mjpeg", ""), ("yuyv", "yuyv"), ("yuyv", "")])
def test_a_webcam(webcam: Board, options: CaptureOptions, camera: str, wish: str) -> None:
    webcam(NV_WEBCAM=camera)
    pipeline = pipeline_from_uri("v4l2:///dev/video0", replace(options, format=wish))
    source = GstSource(pipeline, "webcam")
    seen = [frame.image.copy() for frame in frames_of(source, 5)]
    assert {image.shape for image in seen} == {(48, 64, 3) if options.jetson else (240, 320, 3)}
    assert max(image.max() for image in seen) > 200, "the ball is white"
    assert ("jpegdec" in source.description) == (camera == "mjpeg")
    assert ("jpegparse ! jpegdec" in pipeline.text) == (wish == "mjpeg")


def test_a_webcam_without_the_format_asked_is_an_error(webcam: Board) -> None:
    webcam(NV_WEBCAM="yuyv")
    pipeline = pipeline_from_uri("v4l2:///dev/video0", replace(JETSON, format="mjpeg"))
    with pytest.raises(SourceError):
        list(frames_of(GstSource(pipeline, "webcam"), 1))


@pytest.mark.parametrize("options", [JETSON, CaptureOptions()], ids=["board", "pc"])
def test_jpeg_in_files_and_streams_is_jpegdec_s_too(
    board: Board, options: CaptureOptions, tmp_path: Path, free_port: int
) -> None:
    from tests.system.conftest import RtspCamera

    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for index in range(12):
        writer.write(np.full((64, 96, 3), 20 * index, np.uint8))
    writer.release()
    source = source_from_uri(str(path), options, "gstreamer")
    levels = [round(float(frame.image.mean()) / 20) for frame in frames_of(source)]
    assert levels == list(range(12)) and source.description.endswith("decoded by jpegdec")
    camera = RtspCamera(free_port)
    camera.start(codec="mjpeg")
    try:
        source = source_from_uri(camera.uri, options)
        assert len(list(frames_of(source, 5))) == 5 and source.description.endswith("decoded by jpegdec")
    finally:
        camera.kill()
