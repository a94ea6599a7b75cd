"""ROS bags: images that other libraries wrote are read as they are, masks keep stamps and frame_id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterable

import cv2
import numpy as np
import pytest

from edgeseg.errors import ForeignFileError, SinkError, SourceError, UsageError
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.rosbag.pictures import ENCODINGS
from edgeseg.runtime.sinks.uri import sink_from_uri
from edgeseg.runtime.sources.base import FrameSource
from edgeseg.runtime.sources.uri import source_from_uri
from edgeseg.spec import ModelSpec
from tests.cli.test_cli import edgeseg, refused
from tests.runtime.test_uris import context
from tests.source_contract import SourceContract, frames_of

pytest.importorskip("rosbags", reason="the package rosbags is not installed (Python 3.10 or newer)")
mcap_ros2 = pytest.importorskip("mcap_ros2.writer", reason="the package mcap-ros2-support is not installed")

BEGIN_NS = 1_700_000_000_123_456_789
STEP_NS = 33_333_333
TIME = "int32 sec\nuint32 nanosec"
HEADER = f"builtin_interfaces/Time stamp\nstring frame_id\n{'=' * 80}\nMSG: builtin_interfaces/Time\n{TIME}"
RAW = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n"
    f"uint8[] data\n{'=' * 80}\nMSG: std_msgs/Header\n{HEADER}"
)
COMPRESSED = f"std_msgs/Header header\nstring format\nuint8[] data\n{'=' * 80}\nMSG: std_msgs/Header\n{HEADER}"

rng = np.random.default_rng(0)
PICTURES = [cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48)) for _ in range(4)]


def stamp(index: int) -> dict[str, int]:
    seconds, nanoseconds = divmod(BEGIN_NS + index * STEP_NS, 10**9)
    return {"sec": seconds, "nanosec": nanoseconds}


def header(index: int, frame_id: str = "camera_optical") -> dict[str, Any]:
    return {"stamp": stamp(index), "frame_id": frame_id}


def raw(index: int, encoding: str, samples: np.ndarray, *, padding: int = 0, is_bigendian: int = 0) -> dict[str, Any]:
    rows = samples.reshape(len(samples), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    height, width = samples.shape[:2]
    return {
        "header": header(index), "height": height, "width": width, "encoding": encoding,
        "is_bigendian": is_bigendian, "step": rows.shape[1], "data": rows.tobytes(),
    }  # fmt: skip


def compressed(index: int, form: str, data: bytes) -> dict[str, Any]:
    return {"header": header(index), "format": form, "data": data}


def bag_of(path: Path, messages: Iterable[tuple[str, dict[str, Any]]]) -> Path:
    """Write an .mcap file by the library of Foxglove; a message with a format is compressed."""
    with path.open("wb") as file:
        writer = mcap_ros2.Writer(file)
        kinds = {
            False: writer.register_msgdef("sensor_msgs/msg/Image", RAW),
            True: writer.register_msgdef("sensor_msgs/msg/CompressedImage", COMPRESSED),
        }
        for index, (topic, message) in enumerate(messages):
            at = BEGIN_NS + 10**9 + index * STEP_NS  # logged a second after it was captured
            writer.write_message(topic, kinds["format" in message], message, at, at, index)
        writer.finish()
    return path


def raw_bag(path: Path, topic: str = "/camera/image_raw") -> Path:
    return bag_of(path, [(topic, raw(index, "bgr8", picture)) for index, picture in enumerate(PICTURES)])


def read(path: Path, topic: str = "") -> list[Frame]:
    with source_from_uri(f"rosbag://{path}" + (f"?topic={topic}" if topic else "")) as source:
        return frames_of(source)


class TestRosbag(SourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> FrameSource:
        return source_from_uri(f"rosbag://{raw_bag(tmp_path / 'a.mcap')}")


# What is read.


def mosaic(picture: np.ndarray, pattern: str) -> np.ndarray:
    """The samples that a sensor with this pattern of colours sees."""
    found = np.empty(picture.shape[:2], picture.dtype)
    for place, colour in enumerate(pattern):
        found[place // 2 :: 2, place % 2 :: 2] = picture[place // 2 :: 2, place % 2 :: 2, "bgr".index(colour)]
    return found


def uyvy(picture: np.ndarray) -> np.ndarray:
    """As cameras send it: BT.601, luma from 16 to 235, the colour of two pixels shared."""
    blue, green, red = np.moveaxis(picture / 255.0, 2, 0)
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    colour = 128 - 37.797 * red - 74.203 * green + 112 * blue, 128 + 112 * red - 93.786 * green - 18.214 * blue
    found = np.empty((*picture.shape[:2], 2), np.uint8)
    found[..., 1] = np.rint(luma)
    found[:, ::2, 0], found[:, 1::2, 0] = (np.rint(one[:, ::2]) for one in colour)
    return found


FLAT = np.full((48, 64, 3), (30, 90, 200), np.uint8)
"""One colour, so that what a mosaic or shared colour cannot say is nothing."""
GREY = cv2.cvtColor(PICTURES[0], cv2.COLOR_BGR2GRAY)
GREY_BGR = cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR)
WIDE = PICTURES[0].astype("<u2") * 256 + 77
ALPHA = np.dstack([PICTURES[0], rng.integers(0, 256, (48, 64), np.uint8)])
CASES: dict[str, tuple[np.ndarray, np.ndarray, int]] = {
    "bgr8": (PICTURES[0], PICTURES[0], 0),
    "8UC3": (PICTURES[0], PICTURES[0], 0),
    "rgb8": (np.ascontiguousarray(PICTURES[0][..., ::-1]), PICTURES[0], 0),
    "bgra8": (ALPHA, PICTURES[0], 0),
    "rgba8": (np.ascontiguousarray(ALPHA[..., [2, 1, 0, 3]]), PICTURES[0], 0),
    "mono8": (GREY, GREY_BGR, 0),
    "8UC1": (GREY, GREY_BGR, 0),
    "mono16": (GREY.astype("<u2") * 256 + 3, GREY_BGR, 0),
    "bgr16": (WIDE, PICTURES[0], 0),
    "rgb16": (np.ascontiguousarray(WIDE[..., ::-1]), PICTURES[0], 0),
    "bgra16": (np.dstack([WIDE, WIDE[..., :1]]), PICTURES[0], 0),
    "rgba16": (np.ascontiguousarray(np.dstack([WIDE[..., ::-1], WIDE[..., :1]])), PICTURES[0], 0),
    "yuv422": (uyvy(FLAT), FLAT, 4),
    "uyvy": (uyvy(FLAT), FLAT, 4),
    "yuv422_yuy2": (np.ascontiguousarray(uyvy(FLAT)[..., ::-1]), FLAT, 4),
    "yuyv": (np.ascontiguousarray(uyvy(FLAT)[..., ::-1]), FLAT, 4),
    **{f"bayer_{one}8": (mosaic(FLAT, one), FLAT, 0) for one in ("rggb", "bggr", "gbrg", "grbg")},
    **{
        f"bayer_{one}16": (mosaic(FLAT, one).astype("<u2") * 256 + 9, FLAT, 0)
        for one in ("rggb", "bggr", "gbrg", "grbg")
    },
}  # fmt: skip


def test_every_encoding_is_tried() -> None:
    assert set(CASES) == set(ENCODINGS)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", CASES)
def test_an_encoding_is_the_picture(tmp_path: Path, encoding: str, padding: int) -> None:
    samples, expected, most = CASES[encoding]
    (frame,) = read(bag_of(tmp_path / "a.mcap", [("/c", raw(0, encoding, samples, padding=padding))]))
    assert frame.image.shape == expected.shape and frame.image.dtype == np.uint8
    assert np.abs(frame.image.astype(int) - expected).max() <= most


def test_samples_of_16_bits_may_begin_with_the_upper_byte(tmp_path: Path) -> None:
    swapped = raw(0, "mono16", CASES["mono16"][0].astype(">u2"), is_bigendian=1)
    (frame,) = read(bag_of(tmp_path / "a.mcap", [("/c", swapped)]))
    np.testing.assert_array_equal(frame.image, GREY_BGR)


@pytest.mark.parametrize(
    ("form", "suffix", "most"), [("jpeg", ".jpg", 40), ("rgb8; png compressed bgr8", ".png", 0), ("png", ".png", 0)]
)
def test_compressed_images_are_decoded(tmp_path: Path, form: str, suffix: str, most: int) -> None:
    data = cv2.imencode(suffix, PICTURES[1])[1].tobytes()
    (frame,) = read(bag_of(tmp_path / "a.mcap", [("/c/compressed", compressed(0, form, data))]))
    assert np.abs(frame.image.astype(int) - PICTURES[1]).max() <= most


def test_stamps_are_those_of_the_camera_and_media_time_begins_with_the_first(tmp_path: Path) -> None:
    frames = read(raw_bag(tmp_path / "a.mcap"))
    assert [frame.stamp_ns for frame in frames] == [BEGIN_NS + index * STEP_NS for index in range(4)]
    assert [frame.media_ns for frame in frames] == [index * STEP_NS for index in range(4)]
    assert {frame.frame_id for frame in frames} == {"camera_optical"}
    messages = [
        (("/c"), {**raw(0, "bgr8", PICTURES[0]), "header": {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": ""}})
    ]
    (frame,) = read(bag_of(tmp_path / "b.mcap", messages))
    assert frame.stamp_ns == BEGIN_NS + 10**9, "without a stamp, when it was recorded"


def test_one_of_several_topics_has_to_be_named(tmp_path: Path) -> None:
    data = cv2.imencode(".png", PICTURES[1])[1].tobytes()
    messages = [("/left", raw(0, "bgr8", PICTURES[0])), ("/right", compressed(1, "png", data))]
    path = bag_of(tmp_path / "a.mcap", messages)
    with pytest.raises(UsageError, match=r"holds images of several topics; name one: \?topic=/left or /right"):
        read(path)
    np.testing.assert_array_equal(read(path, "/right")[0].image, PICTURES[1])
    with pytest.raises(SourceError, match="holds no images of /up; it holds those of /left, /right"):
        read(path, "/up")


# What is refused.


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (raw(0, "32FC1", np.ones((4, 4), "<f4")), "has the encoding '32FC1', which is not read; there are bgr8, rgb8"),
        ({**raw(0, "bgr8", PICTURES[0]), "data": bytes(100)}, "is damaged: 64x48 bgr8 with rows of 192 bytes does not"),
        ({**raw(0, "bgr8", PICTURES[0]), "step": 10}, "is damaged"),
        ({**raw(0, "bgr8", PICTURES[0]), "height": 0}, "is damaged"),
        ({**raw(0, "bgr8", PICTURES[0]), "height": 2**32 - 1, "step": 2**32 - 1}, "is damaged"),
        (raw(0, "yuv422", np.zeros((4, 5, 2), np.uint8)), "cannot be converted: 5x4 yuv422"),
        (compressed(0, "jpeg", b""), "it is empty"),
        (compressed(0, "jpeg", b"no picture"), "cannot be decoded as an image"),
        (compressed(0, "jpeg", cv2.imencode(".jpg", PICTURES[0])[1].tobytes()[:-40]), "is truncated"),
        (compressed(0, "16UC1; compressedDepth", b"x"), "is a depth image"),
    ],
)  # fmt: skip
def test_an_image_that_is_none_is_one_line_with_its_place(tmp_path: Path, message: dict[str, Any], said: str) -> None:
    path = bag_of(tmp_path / "a.mcap", [("/c", message)])
    with pytest.raises(SourceError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("image 1 of bag ")


def injured(path: Path, how: str) -> Path:
    data = bytearray(path.read_bytes())
    if how == "empty":
        data = bytearray()
    elif how.startswith("cut"):
        del data[int(len(data) * float(how[3:]) / 100) :]
    elif how == "text":
        data = bytearray(b"my notes")
    else:
        for place in range(200, len(data), 97):
            data[place] ^= 0x5A
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", ["empty", "text", "garbled", *(f"cut{share}" for share in (1, 10, 40, 70, 95, 99.9))])
def test_a_damaged_or_cut_bag_is_one_line(tmp_path: Path, how: str) -> None:
    path = injured(raw_bag(tmp_path / "a.mcap"), how)
    with pytest.raises(SourceError) as caught:
        read(path)
    assert "cannot be read as a bag, or is cut" in str(caught.value) and "\n" not in str(caught.value)
    assert "mcap recover" in str(caught.value)


def test_what_is_no_bag_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="gone.mcap is no bag: there is no such file"):
        read(tmp_path / "gone.mcap")
    for name in ("folder", "notes.txt"):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.write_text("x")
        with pytest.raises(SourceError, match="cannot be read as a bag"):
            read(path)
    empty = bag_of(tmp_path / "empty.mcap", [])
    with pytest.raises(SourceError, match="no images|cannot be read as a bag"):
        read(empty)


# What is written.


def masks_in(bag: Path) -> list[tuple[str, int, Any]]:
    """Topic, time of record and message, as the library reads them."""
    from rosbags.highlevel import AnyReader

    with AnyReader([bag]) as reader:
        return [(one.topic, at, reader.deserialize(data, one.msgtype)) for one, at, data in reader.messages()]


def results(frames: Iterable[Frame]) -> list[Segmentation]:
    return [Segmentation(frame, (frame.image[..., 0] % 3), {}, 3) for frame in frames]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_masks_have_the_stamps_the_frame_id_and_the_size_of_the_images(
    tmp_path: Path, spec: ModelSpec, storage: str
) -> None:
    written = results(read(raw_bag(tmp_path / "a.mcap")))
    with sink_from_uri(f"rosbag://{tmp_path}/out?storage={storage}", context(spec)) as sink:
        for result in written:
            sink.write(result)
    found = masks_in(tmp_path / "out")
    assert len(found) == 4
    for index, (topic, at, message) in enumerate(found):
        assert (topic, message.encoding, message.header.frame_id) == ("/edgeseg/mask", "mono8", "camera_optical")
        expected = BEGIN_NS + index * STEP_NS
        assert at == expected == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        np.testing.assert_array_equal(message.data.reshape(message.height, message.width), written[index].classes)
    again = read(tmp_path / "out")
    np.testing.assert_array_equal(again[2].image[..., 0], written[2].classes)
    assert [frame.stamp_ns for frame in again] == [frame.stamp_ns for frame in read(tmp_path / "a.mcap")]


def test_several_sources_have_topics_of_their_own_and_a_camera_has_the_time_of_day(
    tmp_path: Path, spec: ModelSpec
) -> None:
    import time
    from dataclasses import replace

    before = time.time_ns()
    where = replace(context(spec), by_source=True)
    with sink_from_uri(f"rosbag://{tmp_path}/out?topic=/seg", where) as sink:
        for index, source in enumerate(("front", "0", "an odd-name", "an odd name", "front")):
            frame = Frame(PICTURES[0], index, time.perf_counter_ns(), str(index), source=source)
            sink.write(results([frame])[0])
    found = masks_in(tmp_path / "out")
    assert [topic for topic, _, _ in found] == [
        *("/seg/front", "/seg/source_0", "/seg/an_odd_name", "/seg/an_odd_name_", "/seg/front")
    ]
    assert all(before - 10**9 < at < time.time_ns() + 10**9 for _, at, _ in found)


def test_a_bag_replaces_nothing(tmp_path: Path, spec: ModelSpec) -> None:
    from dataclasses import replace

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ForeignFileError, match="out is there, and a bag replaces nothing, with `overwrite` either"):
            sink_from_uri(f"rosbag://{tmp_path}/out", replace(context(spec), overwrite=overwrite))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError, match="cannot be made"):
        sink_from_uri(f"rosbag://{tmp_path}/file/out", context(spec))


@pytest.mark.parametrize("topic", ["", "mask", "//x", "/a/", "/my masks", "/\u00e4", "/1x", "~/x", "/a\n"])
def test_what_is_no_topic_is_refused(tmp_path: Path, spec: ModelSpec, topic: str) -> None:
    with pytest.raises(UsageError, match="the topic of a bag is /NAME"):
        sink_from_uri(f"rosbag://{tmp_path}/out?topic={topic}", context(spec))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("stamp_ns", [-1, 2**31 * 10**9, 10**25])
def test_a_stamp_that_ros_does_not_have_is_one_line(
    tmp_path: Path, spec: ModelSpec, storage: str, stamp_ns: int
) -> None:
    frame = Frame(PICTURES[0], 0, 1, "7", stamp_ns=stamp_ns, frame_id="caf\udce9")
    with sink_from_uri(f"rosbag://{tmp_path}/out?storage={storage}", context(spec)) as sink:
        with pytest.raises(SinkError, match=f"frame 7 has the stamp {stamp_ns} ns"):
            sink.write(results([frame])[0])
        sink.write(results([Frame(PICTURES[0], 0, 1, "8", stamp_ns=5, frame_id="caf\udce9")])[0])
    ((_, at, message),) = masks_in(tmp_path / "out")
    assert at == 5 and message.header.frame_id == r"caf\xe9"


def test_a_bag_of_a_run_that_failed_does_not_look_complete(tmp_path: Path, spec: ModelSpec) -> None:
    sink = sink_from_uri(f"rosbag://{tmp_path}/out", context(spec))
    sink.write(results(read(raw_bag(tmp_path / "a.mcap")))[0])
    sink.discard()
    sink.discard()
    assert not (tmp_path / "out" / "metadata.yaml").exists()
    with pytest.raises(SourceError, match="cannot be read as a bag, or is cut"):
        read(tmp_path / "out")


def test_a_full_disk_is_one_line(tmp_path: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = [Frame(rng.integers(0, 256, (600, 800, 3), np.uint8), 0, 1, "0", stamp_ns=BEGIN_NS) for _ in range(3)]
    sink = sink_from_uri(f"rosbag://{tmp_path}/out", context(spec))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SinkError, match="out cannot be (written|finished)") as caught:
            for result in results(large):
                sink.write(result)
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sink.discard()
    assert "\n" not in str(caught.value) and not (tmp_path / "out" / "metadata.yaml").exists()


def test_a_bag_goes_through_the_network_and_comes_out_as_masks(tmp_path: Path) -> None:
    raw_bag(tmp_path / "drive.mcap")
    done = edgeseg("run", "--source", "rosbag://drive.mcap", "--sink", "rosbag://masks", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = masks_in(tmp_path / "masks")
    assert [at for _, at, _ in found] == [BEGIN_NS + index * STEP_NS for index in range(4)]
    assert all((one.height, one.width) == (48, 64) and one.data.max() < 11 for _, _, one in found)
    command = ("run", "--source", "rosbag://drive.mcap", "--sink")
    assert "masks is there, and a bag replaces nothing" in refused(*command, "rosbag://masks", cwd=tmp_path)
    os.truncate(tmp_path / "drive.mcap", 3000)
    said = refused(*command, "null://", cwd=tmp_path)
    assert "drive.mcap cannot be read as a bag, or is cut" in said
