from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.demo import StreetScene
from edgeseg.errors import DatasetError, EdgesegError, ImageError, SourceError, UsageError
from edgeseg.images import read_mask
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sinks.folder import FolderSink
from edgeseg.runtime.sources import EndOfStream, FrameSource, source_from_uri
from edgeseg.runtime.sources.camera import CameraSource, camera_devices
from edgeseg.runtime.sources.demo import StreetSource
from edgeseg.runtime.sources.gstreamer import GstSource
from edgeseg.runtime.sources.latest import LatestFrame
from edgeseg.runtime.sources.uri import Stream, streams_from_uri
from edgeseg.spec import ModelSpec
from tests import HANG_S, source_contract
from tests.fakes import ScriptedSource
from tests.source_contract import SourceContract


def frames_of(source: FrameSource) -> list[Frame]:
    with source:
        return source_contract.frames_of(source)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for index in range(12):
        writer.write(np.full((64, 96, 3), 20 * index, np.uint8))
    writer.release()
    return path


class TestSourcesThatEnd(SourceContract):
    @pytest.fixture(params=["images", "video", "video by OpenCV", "street"])
    def source(self, request: pytest.FixtureRequest) -> FrameSource:
        if request.param == "street":
            return StreetSource("demo://street?frames=3&size=160x120&step=20", sleep=lambda seconds: None)
        path = request.getfixturevalue("pairs" if request.param == "images" else "video")
        return source_from_uri(str(path), capture="opencv" if "OpenCV" in request.param else "auto")


def test_video_gives_every_frame_in_order(video: Path) -> None:
    frames = frames_of(source_from_uri(str(video)))
    assert [frame.index for frame in frames] == list(range(12))
    assert [round(float(frame.image.mean()) / 20) for frame in frames] == list(range(12))


def test_unreadable_videos_are_refused(video: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"no video" * 100)
    for capture in ("auto", "opencv"):
        with pytest.raises(SourceError, match="cannot be opened as a video"):
            frames_of(source_from_uri(str(junk), capture=capture))
    with pytest.raises(SourceError, match=r"no file, folder or glob"):
        source_from_uri(str(tmp_path / "missing.mp4"))


def test_a_truncated_video_is_an_error_not_an_end(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match="truncated|cannot be opened"):
        frames_of(source_from_uri(str(video)))


def test_folders_globs_and_single_images(pairs: Path) -> None:
    assert [frame.name for frame in frames_of(source_from_uri(str(pairs)))] == ["0", "1", "2", "3"]
    assert [frame.name for frame in frames_of(source_from_uri(str(pairs / "[13].png")))] == ["1", "3"]
    assert [frame.name for frame in frames_of(source_from_uri(f"file://{pairs}/2.png"))] == ["2"]


def test_a_truncated_image_in_a_folder_stops_with_its_name(pairs: Path) -> None:
    path = pairs / "2.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match=r"2\.png is truncated"):
        frames_of(source_from_uri(str(pairs)))


def test_images_that_share_a_name_are_all_kept(pairs: Path, tmp_path: Path, spec: ModelSpec) -> None:
    cv2.imwrite(str(pairs / "1.jpg"), np.full((64, 96, 3), 200, np.uint8))
    cv2.imwrite(str(pairs / "2-0001.png"), np.full((64, 96, 3), 200, np.uint8))
    cv2.imwritemulti(str(pairs / "2.tif"), [np.full((64, 96, 3), 80 * page, np.uint8) for page in range(3)])
    source = source_from_uri(str(pairs))
    assert source.description.endswith(f"; files share names, so the results of {pairs}/1.jpg are called 1.jpg")
    sink = FolderSink(tmp_path / "out", Painter(spec))
    with source, sink:
        for frame in frames_of(source):
            sink.write(Segmentation(frame, np.full((8, 8), frame.index, np.uint8), {}, 3))
    made = {path.stem: int(read_mask(path)[0, 0]) for path in (tmp_path / "out" / "masks").iterdir()}
    assert made == {
        "0": 0,
        "1.jpg": 1,
        "1.png": 2,
        "2-0001": 3,
        "2.png": 4,
        "2.tif-0001": 5,
        "2.tif-0002": 6,
        "2.tif-0003": 7,
        "3": 8,
    }


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no images"):
        source_from_uri(str(tmp_path))
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(SourceError, match="neither an image"):
        source_from_uri(str(tmp_path / "notes.md"))
    with pytest.raises(SourceError, match=r"no source for ftp://\*\*\*@host/x"):
        source_from_uri("ftp://me:secret@host/x")
    with pytest.raises(UsageError, match="there is demo://street"):
        source_from_uri("demo://moon")


def test_cameras_by_every_name() -> None:
    for uri in ("3", "/dev/video3", "v4l2:///dev/video3"):
        source = source_from_uri(uri, capture="opencv")
        assert isinstance(source, CameraSource) and source.description == "camera /dev/video3" and source.is_live
        by_gstreamer = source_from_uri(uri, capture="gstreamer")
        assert isinstance(by_gstreamer, GstSource) and by_gstreamer.is_live
        assert by_gstreamer.pipeline.properties == {"origin": {"device": "/dev/video3"}}
        with pytest.raises(SourceError, match="no camera /dev/video3"):
            by_gstreamer.open()


def test_a_list_of_images_and_one_that_lies(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# two of them\n{pairs.name}/1.png\n\n{pairs}/0.png\n")
    source = source_from_uri(str(tmp_path / "list.txt"))
    source.open()
    assert [source.read().name for _ in range(2)] == ["1", "0"]  # type: ignore[union-attr]
    (tmp_path / "list.txt").write_text("none.png\nnone2.png\n")
    with pytest.raises(SourceError, match="2 of 2 images are not there, the first is .*none.png"):
        source_from_uri(str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(SourceError, match="lists no image"):
        source_from_uri(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_of_streams(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "yard.streams"
    lines = (
        "# the yard\nrtsp://10.0.0.7/main name=gate deadline-ms=200\n"
        "'a folder/*.png'  policy=every\ndemo://street name=demo policy=latest # rendered\n0\n"
    )
    path.write_bytes(lines.replace("\n", end).encode(encoding))
    assert streams_from_uri(str(path)) == [
        Stream("rtsp://10.0.0.7/main", "gate", Policy("deadline", 200)),
        Stream("a folder/*.png", "", Policy("every")),
        Stream("demo://street", "demo", Policy("latest")),
        Stream("0"),
    ]
    assert streams_from_uri("0") == [Stream("0")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no source"),
        ("0 name=a\n1 name=a", "same name"),
        ("0 colour=red", "yard.streams:1: colour is unknown"),
        ("\n0 policy=newest", "a policy is one of"),
        ("0 policy=deadline", "go together"),
        ("0 deadline-ms=soon", "yard.streams:1: could not convert"),
        ("0 nonsense", "a line is: URI"),
        ("0 name=../../etc", "a name is up to 64"),
        ("0 name=a=b", "a name is up to 64 letters.*got 'a=b'"),
        ("0 name=" + "a" * 65, "a name is up to 64"),
        ("'0", "No closing quotation"),
    ],
)
def test_a_list_of_streams_that_makes_no_sense(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "yard.streams"
    path.write_text(text)
    with pytest.raises(EdgesegError, match=message):
        streams_from_uri(str(path))


def test_no_camera_says_what_is_there() -> None:
    with pytest.raises(SourceError, match=r"no camera /dev/video97; (there are /dev/video|this machine has no)"):
        CameraSource(97).open()


def test_camera_list_from_a_device_tree(tmp_path: Path) -> None:
    assert camera_devices(tmp_path) == []
    for number, name in ((0, "HD Webcam"), (10, "CSI"), (2, "")):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / f"dev/video{number}").write_text("")
        if name:
            label = tmp_path / f"sys/class/video4linux/video{number}/name"
            label.parent.mkdir(parents=True)
            label.write_text(f"{name}\n")
    assert camera_devices(tmp_path) == ["/dev/video0 (HD Webcam)", "/dev/video2 (unnamed)", "/dev/video10 (CSI)"]


def test_street_is_paced_and_labelled() -> None:
    waits: list[float] = []
    source = StreetSource("demo://street?frames=3&size=160x120&fps=2&seed=4", sleep=waits.append, clock=lambda: 7.0)
    frames = frames_of(source)
    assert len(frames) == 3 and source.label_classes is not None
    assert waits == [0.5, 1.0, 1.5], "no time passes on this clock, so each wait reaches half a second further"
    image, label = StreetScene(4, (120, 160), 2.0).render(1)
    np.testing.assert_array_equal(frames[1].image, image)
    assert frames[1].label is not None
    np.testing.assert_array_equal(frames[1].label, label)


class _Ticking(FrameSource):
    """A live source that is always ready."""

    is_live = True
    description = "ticking"

    def __init__(self, count: int) -> None:
        self._count, self._index = count, 0
        self.finished = threading.Event()

    def open(self) -> None:
        pass

    def read(self) -> Frame:
        if self._index == self._count:
            self.finished.set()
            raise EndOfStream
        self._index += 1
        return Frame(np.zeros((4, 4, 3), np.uint8), self._index - 1, time.perf_counter_ns(), "x")

    def close(self) -> None:
        pass


def test_latest_frame_drops_and_counts_every_frame() -> None:
    inner = _Ticking(100)
    latest = LatestFrame(inner)
    with latest:
        assert inner.finished.wait(HANG_S)
        frame = latest.read()
        assert frame is not None and frame.index == 99, "the newest frame, not the oldest"
        with pytest.raises(EndOfStream):
            latest.read()
    assert latest.dropped == 99


def test_latest_frame_says_no_frame_yet_and_passes_errors_on() -> None:
    unplugged = threading.Event()

    class Silent(_Ticking):
        def read(self) -> Frame:
            unplugged.wait(HANG_S)
            raise SourceError("unplugged")

    with LatestFrame(Silent(1), timeout_s=0.05) as latest:
        assert latest.read() is None
        unplugged.set()
        with pytest.raises(SourceError, match="unplugged"):
            while latest.read() is None:
                pass


def test_latest_frame_closes_its_source() -> None:
    scripted = ScriptedSource([np.zeros((4, 4, 3), np.uint8)], live=True)
    with LatestFrame(scripted):
        pass
    assert (scripted.opened, scripted.closed) == (1, 1)
