"""Pipelines in a process of their own: what comes out, what goes wrong, what is said about it."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest

from edgeseg.errors import SourceError
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.gst.faults import source_fault
from edgeseg.runtime.gst.pipelines import CaptureOptions, pipeline_from_uri
from edgeseg.runtime.sources import EndOfStream, gstreamer, source_from_uri
from edgeseg.runtime.sources.gstreamer import GstSource
from tests import HANG_S
from tests.servers import Quiet, serving

pytestmark = pytest.mark.system
TEST = "gst://videotestsrc num-buffers={} pattern={} ! video/x-raw,width={},height={}"


def frames_of(source: Any, most: int = 1000, seconds: float = 20) -> Iterator[Frame]:
    """Frames until the end of the stream, so many, or no more time."""
    until = time.monotonic() + seconds
    count = 0
    with source:
        while count < most:
            assert time.monotonic() < until, f"{count} frames in {seconds} s"
            try:
                frame = source.read()
            except EndOfStream:
                return
            if frame is not None:
                count += 1
                yield frame
            del frame


def iter_for(source: Any, seconds: float, most: int = 1000) -> Iterator[Frame]:
    """Frames of an open source, so many at most, for so long."""
    until = time.monotonic() + seconds
    while most and time.monotonic() < until:
        frame = source.read()
        if frame is not None:
            most -= 1
            yield frame
        del frame


@pytest.mark.parametrize("width", [320, 318, 321])
def test_every_frame_of_a_pipeline_arrives_as_it_is(width: int) -> None:
    source = source_from_uri(TEST.format(50, "snow", width, 240))
    seen = [(frame.index, frame.image.shape, frame.image.copy()) for frame in frames_of(source)]
    assert [index for index, _, _ in seen] == list(range(50))
    assert {shape for _, shape, _ in seen} == {(240, width, 3)}
    assert len({image.tobytes() for _, _, image in seen}) == 50, "snow never repeats"
    assert not any(source.lost_frames().values())


def test_colours_are_bgr() -> None:
    (frame,) = frames_of(source_from_uri(TEST.format(1, "blue", 320, 240)))
    assert frame.image[100, 100].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_a_held_frame_keeps_its_memory_and_a_live_camera_counts_what_it_cannot_store() -> None:
    source = source_from_uri(
        "gst://videotestsrc is-live=true pattern=snow ! video/x-raw,width=64,height=48,framerate=60/1"
    )
    held = list(frames_of(source, 8))
    copies = [frame.image.copy() for frame in held]
    source.open()
    more: list[Frame] = []
    until = time.monotonic() + 5
    while (len(more) < 24 or not source.lost_frames()["busy"]) and time.monotonic() < until:
        frame = source.read()
        more += [frame] if frame else []
    assert source.lost_frames()["busy"] > 0 and len(more) == 24, "all slots are held"
    for frame, copy in zip(held, copies):
        np.testing.assert_array_equal(frame.image, copy)
    source.close()


def test_a_stored_source_waits_for_its_reader() -> None:
    source = source_from_uri(TEST.format(40, "ball", 160, 120))
    indices = []
    for frame in frames_of(source):
        indices.append(frame.index)
        time.sleep(0.01)
    assert indices == list(range(40)) and not any(source.lost_frames().values())


def test_a_stored_source_that_hangs_is_an_error_but_not_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_from_uri(TEST.format(100, "ball", 64, 48))
    assert isinstance(source, GstSource)
    with source:
        held = list(iter_for(source, HANG_S, most=8))
        assert len(held) == 8
        monkeypatch.setattr(gstreamer, "_LONGEST_SILENCE_S", 0.5)
        assert not list(iter_for(source, 1.0)), "no slot is free: it waits for us"
        assert source.pid is not None
        os.kill(source.pid, signal.SIGSTOP)
        del held
        with pytest.raises(SourceError, match=r"stalled: no frame for 0\.5 s"):
            for _ in iter_for(source, HANG_S):
                pass


def test_of_what_a_process_prints_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GST_DEBUG", "*:6")
    source = source_from_uri(TEST.format(20, "ball", 64, 48))
    assert isinstance(source, GstSource)
    printed = []
    with source, pytest.raises(EndOfStream):
        while True:
            source.read()
            assert source._process is not None
            printed.append(source._process.printed())
    first = next(text for text in printed if text)  # on a busy machine frames come before what is printed
    assert len(printed[-1]) == 1 << 16 and first[:100] not in printed[-1]


def test_a_change_of_resolution_in_mid_stream() -> None:
    parts = "videotestsrc num-buffers=10 ! video/x-raw,width={},height={} ! c."
    uri = f"gst://concat name=c {parts.format(320, 240)} {parts.format(640, 480)} c."
    shapes = [(frame.index, frame.image.shape) for frame in frames_of(source_from_uri(uri))]
    assert [index for index, _ in shapes] == list(range(20))
    assert [shape for _, shape in shapes] == [(240, 320, 3)] * 10 + [(480, 640, 3)] * 10


def test_size_and_flip_are_done_by_the_pipeline() -> None:
    options = CaptureOptions(size_hw=(48, 64), flip="rotate-180")
    plain = next(frames_of(source_from_uri(TEST.format(1, "smpte", 320, 240)), 1)).image
    turned = next(frames_of(source_from_uri(TEST.format(1, "smpte", 320, 240), options), 1)).image
    assert turned.shape == (48, 64, 3)
    assert turned[-3, -3].tolist() == pytest.approx(plain[3, 3].tolist(), abs=4)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip with space.mp4"
    command = ["gst-launch-1.0", "-q", "videotestsrc", "num-buffers=45", "pattern=ball"]
    command += ["!", "video/x-raw,width=320,height=240,framerate=30/1", "!", "x264enc", "!", "mp4mux", "!", "filesink"]
    subprocess.run([*command, f"location={path}"], check=True, timeout=HANG_S)
    return path


def test_a_video_file_by_gstreamer_is_the_same_as_by_opencv(video: Path) -> None:
    by_gstreamer = [frame.image.copy() for frame in frames_of(source_from_uri(str(video), capture="gstreamer"))]
    by_opencv = [frame.image.copy() for frame in frames_of(source_from_uri(str(video), capture="opencv"))]
    assert len(by_gstreamer) == len(by_opencv) == 45
    difference = np.abs(np.stack(by_gstreamer).astype(int) - np.stack(by_opencv)).mean()
    assert difference < 3, "two decoders' colour conversions"


def test_a_truncated_video_is_an_error(video: Path) -> None:
    video.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(
        SourceError
    ):  # decodebin swallows the demuxer's error at times; then it is one of silence, in 30 s
        list(frames_of(source_from_uri(str(video), capture="gstreamer"), seconds=60))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """An HTTP server: files of the folder, and a camera that speaks MJPEG at /camera?what=is&odd=with&it."""
    import cv2

    odd = {
        "dashed": "multipart/x-mixed-replace; boundary=--frame",
        "page": "text/html",
        "no-type": None,
        "quoted": 'multipart/x-mixed-replace; boundary="frame"',
        "wrong": "multipart/x-mixed-replace; boundary=no",
    }

    class Server(Quiet, http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, directory=str(tmp_path), **named)

        def do_GET(self) -> None:
            if not self.path.startswith("/camera"):
                super().do_GET()
                return
            how = self.path.partition("?")[2]
            self.send_response(200)
            kind = odd.get(how, "multipart/x-mixed-replace; boundary=frame")
            if kind:
                self.send_header("Content-Type", kind)
            self.end_headers()
            line = b"\n" if how == "line-feeds" else b"\r\n"
            try:
                self.wfile.write(b"Welcome" + 2 * line if how == "preamble" else b"")
                for index in range(30):
                    jpeg = cv2.imencode(".jpg", np.full((120, 160, 3), 8 * index, np.uint8))[1].tobytes()
                    jpeg = jpeg[: len(jpeg) * 2 // 3] if how == "cut" and index % 5 == 4 else jpeg
                    head = [b"Content-Type: image/jpeg"] if how != "bare" else []
                    head += [] if how in ("no-length", "bare") else [b"Content-Length: %d" % len(jpeg)]
                    head = head if how == "no-first" and not index else [b"--frame", *head]
                    noise = os.urandom(4000).replace(b"\xff", b"") if how == "noise" else jpeg
                    self.wfile.write(b"".join(part + line for part in [*head, b"", noise]))
                    time.sleep(0.2 if how == "noise" else 0.02)
            except OSError:
                return

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)) as port:
        yield f"http://127.0.0.1:{port}"


def test_an_mjpeg_camera(web: str) -> None:
    source = source_from_uri(f"{web}/camera")
    assert source.is_live
    levels = []
    with pytest.raises(SourceError, match="ended the stream") as ended:  # a camera has no end
        for frame in frames_of(source):
            levels.append(int(frame.image.mean()))
    assert len(levels) >= 25 and levels == sorted(levels) and ended.value.kind == "ended"


ODD = ["dashed", "quoted", "wrong", "no-type", "page", "no-first", "no-length", "bare", "line-feeds", "preamble"]


@pytest.mark.parametrize("how", ODD)
def test_an_mjpeg_camera_that_keeps_to_no_standard(web: str, how: str) -> None:
    source, levels = source_from_uri(f"{web}/camera?{how}"), []
    with pytest.raises(SourceError, match="ended"):
        for frame in frames_of(source):
            levels.append(int(frame.image.mean()))
    assert len(levels) >= 25 and levels == sorted(levels)


def test_half_pictures_of_a_camera_are_counted_and_not_shown(web: str) -> None:
    source, levels = source_from_uri(f"{web}/camera?cut"), []
    with pytest.raises(SourceError, match="ended"):
        for frame in frames_of(source):
            assert frame.image.std() < 3, "a half picture is grey below"
            levels.append(int(frame.image.mean()))
    assert source.lost_frames()["corrupt"] == 6
    assert 19 <= len(levels) <= 24 and not {8 * index for index in range(4, 30, 5)} & set(levels)


def test_an_address_without_pictures_says_so_in_time(web: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="bytes of a multipart stream hold no JPEG picture"):
        list(frames_of(source_from_uri(f"{web}/camera?noise")))
    (tmp_path / "login").write_text("<!DOCTYPE html>\n<html><body>Password?</body></html>" + " " * 5000)
    with pytest.raises(SourceError, match="a web page comes, and no stream"):
        list(frames_of(source_from_uri(f"{web}/login")))


def test_an_mjpeg_camera_on_a_board(web: str, board: Callable[..., None]) -> None:
    source = source_from_uri(f"{web}/camera", CaptureOptions(jetson=True, network_hw=(48, 64)))
    frames = list(frames_of(source, 20))
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)} and source.description.endswith("by jpegdec")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_an_address_is_sent_as_requests_take_it(scheme: str) -> None:
    properties = pipeline_from_uri(f"{scheme}://anna:a@10.0.0.7/gate 1/M\u00fcll%20?x=a b&y=2,3;4").properties["origin"]
    sent = properties["location" if scheme == "rtsp" else "uri"]
    assert sent.endswith("10.0.0.7/gate%201/M%C3%BCll%20?x=a%20b&y=2,3;4")


def test_a_video_over_http(web: str, video: Path) -> None:
    assert sum(1 for _ in frames_of(source_from_uri(f"{web}/clip with space.mp4"))) == 45
    source = source_from_uri(f"{web}/clip%20with%20space.mp4")
    assert not source.is_live and sum(1 for _ in frames_of(source)) == 45


def test_hls(web: str, tmp_path: Path) -> None:
    command = [
        "gst-launch-1.0",
        "-q",
        "videotestsrc",
        "num-buffers=60",
        "!",
        "video/x-raw,width=320,height=240,framerate=30/1",
    ]
    command += ["!", "x264enc", "key-int-max=15", "!", "mpegtsmux", "!", "hlssink", f"location={tmp_path}/part%05d.ts"]
    command += [f"playlist-location={tmp_path}/live.m3u8", "target-duration=1", "max-files=0", "playlist-length=0"]
    subprocess.run(command, check=True, timeout=HANG_S)
    with (tmp_path / "live.m3u8").open("a") as playlist:
        playlist.write("#EXT-X-ENDLIST\n")
    assert sum(1 for _ in frames_of(source_from_uri(f"{web}/live.m3u8"))) == 60


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording on this machine that nobody in the network may see."""
    path = tmp_path_factory.mktemp("private") / "private.ts"
    command = "gst-launch-1.0 -q videotestsrc num-buffers=60 ! video/x-raw,width=320,height=240,framerate=30/1"
    command += f" ! x264enc tune=zerolatency key-int-max=15 ! mpegtsmux ! filesink location={path}"
    subprocess.run(command.split(), check=True, timeout=HANG_S)
    return path


_PLAYLIST = (
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:2.0,\n{}\n#EXT-X-ENDLIST\n"
)
_DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S" '
    'minBufferTime="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><BaseURL>{}</BaseURL>'
    '<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="100000"/></AdaptationSet></Period></MPD>'
)
_PRIVATE = ("file://{}", "{}", "FILE://{}", "pushfile://{}")


@pytest.mark.parametrize("address", _PRIVATE)
@pytest.mark.parametrize("kind", ["part", "nested", "key", "dash", "list", "content"])
def test_what_the_network_sends_opens_no_file(web: str, tmp_path: Path, private: Path, kind: str, address: str) -> None:
    local = address.format(private)
    nested = private.with_name("nested.m3u8")
    nested.write_text(_PLAYLIST.format(f"file://{private}"))
    pages = {
        "part": ("a.m3u8", _PLAYLIST.format(local)),
        "nested": ("a.m3u8", f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\n{address.format(nested)}\n"),
        "key": ("a.m3u8", _PLAYLIST.format(f'#EXT-X-MAP:URI="{local}"\n{local}')),
        "dash": ("a.mpd", _DASH.format(local)),
        "list": ("a.txt", f"{local}\r\n"),
        "content": ("a.mp4", _PLAYLIST.format(local)),  # what it is called is not what it is
    }
    name, content = pages[kind]
    (tmp_path / name).write_text(content)
    source = source_from_uri(f"{web}/{name}", capture="gstreamer")
    seen = []
    with pytest.raises((SourceError, EndOfStream)), source:
        until = time.monotonic() + 60
        while time.monotonic() < until and not seen:
            seen += [frame for frame in [source.read()] if frame is not None]
        raise EndOfStream
    assert not seen


def test_a_playlist_called_a_video_reaches_no_network(web: str, tmp_path: Path, private: Path) -> None:
    (tmp_path / "private.ts").write_bytes(private.read_bytes())
    (tmp_path / "list.mp4").write_text(_PLAYLIST.format(f"{web}/private.ts"))
    with pytest.raises(SourceError):
        list(frames_of(source_from_uri(str(tmp_path / "list.mp4"), capture="gstreamer"), 1))


@pytest.mark.parametrize(
    ("uri", "kind", "words"),
    [
        ("gst://nosuchelement", "codec", "no element"),
        ("gst://videotestsrc ! nosuch=1 !", "broken", "broken"),
        ("gst://v4l2src device=/dev/video97", "not found", "Cannot identify device"),
        ("rtsp://127.0.0.1:9/x", "unreachable", "is the camera on"),
        ("rtsp://me:hunter2@127.0.0.1:9/x", "unreachable", r"\*\*\*@127"),
        ("http://127.0.0.1:9/x.mjpg", "unreachable", "unreachable"),
        ("csi://0", "missing", "nvarguscamerasrc"),
    ],
)
def test_what_goes_wrong_is_classified_without_credentials(uri: str, kind: str, words: str) -> None:
    with pytest.raises(SourceError, match=words) as said:
        list(frames_of(source_from_uri(uri)))
    assert said.value.kind == kind
    assert "hunter2" not in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("user", "kind"), [("anna:wrong@", "auth"), ("", "auth"), ("anna:s3cret%20word@", "not found")]
)
def test_rtsp_authentication(rtsp: Any, user: str, kind: str) -> None:
    path = "other" if kind == "not found" else "main"
    with pytest.raises(SourceError) as said:
        list(frames_of(source_from_uri(f"rtsp://{user}127.0.0.1:{rtsp.port}/{path}"), 1))
    assert said.value.kind == kind and "wrong@" not in str(said.value) and "s3cret" not in str(said.value)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_frames_and_a_password_that_nobody_sees(rtsp: Any, transport: str) -> None:
    source = source_from_uri(rtsp.uri, CaptureOptions(transport=transport))
    assert isinstance(source, GstSource)
    for frame in frames_of(source, 20):
        assert frame.image.shape == (240, 320, 3) and frame.image.any()
        command_line = Path(f"/proc/{source.pid}/cmdline").read_bytes()
        assert b"s3cret" not in command_line and b"s3cret" not in Path(f"/proc/{source.pid}/environ").read_bytes()
    assert "s3cret" not in source.description + source.pipeline.shown() and "***@" in source.description


@pytest.mark.parametrize("size", ["640x480", "1280x960"])
def test_rtsp_with_rare_key_frames_shows_its_first_ones(rtsp: Any, size: str) -> None:
    rtsp.kill()
    rtsp.start(size, "rare-keys")
    source = source_from_uri(rtsp.uri, CaptureOptions(latency_ms=20))
    seen = list(frames_of(source, 5, 60))
    assert len(seen) == 5 and not source.lost_frames()["corrupt"] and seen[-1].index < 150


def test_no_process_and_no_descriptor_is_left(rtsp: Any) -> None:
    def there() -> tuple[int, int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(os.listdir("/proc/self/fd")), len(children)

    source = source_from_uri(rtsp.uri)
    list(frames_of(source, 3))
    before = there()
    for _ in range(3):
        list(frames_of(source, 3))
    assert there() == before


@pytest.mark.parametrize(
    ("failure", "printed", "kind", "words"),
    [
        ('no element "nvarguscamerasrc"', "", "missing", "nvidia-l4t-gstreamer"),
        (
            "Internal data stream error.",
            "(Argus) Error Timeout: nvarguscamerasrc CaptureSession",
            "busy",
            "restart nvargus-daemon",
        ),
        ("TIMEOUT", "Connecting to nvargus-daemon failed: No such file or directory", "busy", "/tmp/argus_socket"),
        ("No cameras available", "nvarguscamerasrc", "not found", "ribbon cable"),
    ],
)
def test_four_reasons_why_a_csi_camera_does_not_open(failure: str, printed: str, kind: str, words: str) -> None:
    error = source_fault("csi://0", {"domain": "", "code": 1, "text": failure, "debug": "nvarguscamerasrc"}, printed)
    assert error.kind == kind and words in str(error)


def test_the_pipelines_of_a_jetson_and_of_a_pc() -> None:
    board = CaptureOptions(jetson=True, network_hw=(360, 480), rate=30, flip="rotate-180")
    assert pipeline_from_uri("csi://1", board).text == (
        "nvarguscamerasrc name=origin sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,framerate=30/1 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx,width=480,height=360 ! videoconvert ! "
        "video/x-raw,format=BGR,width=480,height=360 ! appsink name=frames sync=false max-buffers=1"
    )
    shown = pipeline_from_uri("rtsp://me:hunter2@cam/main?token=abc", CaptureOptions()).shown()
    assert shown.startswith("gst-launch-1.0 -v rtspsrc name=origin") and "nvvidconv" not in shown
    assert "hunter2" not in shown and "abc" not in shown and "user-pw=***" in shown
