"""Video files as cameras, phones and editors make them: every picture, upright, at its time, through every reader."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeseg.errors import SourceError
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.gst.process import gstreamer_python
from edgeseg.runtime.loop.pipeline import Run
from edgeseg.runtime.recording.file import Recording
from edgeseg.runtime.sinks.uri import SinkContext, sink_from_uri
from edgeseg.runtime.sinks.video import VideoSink
from edgeseg.runtime.sources import EndOfStream, FrameSource, source_from_uri
from edgeseg.runtime.sources.container import missing_bytes
from edgeseg.runtime.sources.video import OpenCvVideo
from edgeseg.spec import ModelSpec
from tests import HANG_S
from tests.fakes import ThresholdEngine
from tests.runtime.results import context, segmentation

pytestmark = pytest.mark.system
MAKER = Path(__file__).with_name("video_maker.py")


def made(path: Path, times_ms: list[int], **how: object) -> Path:
    """A video of so many pictures, each brighter than the one before; see ``video_maker.py``."""
    order = json.dumps({"path": str(path), "times_ms": times_ms, **how})
    subprocess.run([str(gstreamer_python()), str(MAKER), order], check=True, timeout=HANG_S)
    return path


def frames_of(source: FrameSource) -> list[Frame]:
    found = []
    with source:
        while True:
            try:
                frame = source.read()
            except EndOfStream:
                return found
            if frame is not None:
                found.append(Frame(frame.image.copy(), *[getattr(frame, name) for name in list(vars(frame))[1:]]))


def times_of(path: Path) -> list[float]:
    return [round(frame.media_ns / 1e9, 3) for frame in frames_of(source_from_uri(str(path)))]  # type: ignore[operator]


def test_the_clock_of_a_variable_rate_is_not_taken_for_a_rate(tmp_path: Path, spec: ModelSpec) -> None:
    """What is written of a camera was said to have 1e9 fps."""
    sink = sink_from_uri(str(tmp_path / "out.mp4"), context(spec))
    for index, at_ms in enumerate((0, 53, 124, 185, 900)):
        sink.write(segmentation(np.zeros((64, 96), np.uint8), index, captured_ns=at_ms * 1_000_000))
    sink.close()
    source = source_from_uri(str(tmp_path / "out.mp4"))
    assert len(frames_of(source)) == 5
    assert source.fps < 100 and "e+" not in source.description


@pytest.mark.parametrize("suffix", [".ts", ".mp4", ".mkv"])
def test_interlaced_pictures_are_seen_or_refused_but_never_black(tmp_path: Path, suffix: str) -> None:
    path = made(tmp_path / f"camcorder{suffix}", [40 * number for number in range(12)], interlaced=True)
    seen = frames_of(source_from_uri(str(path)))
    assert len(seen) == 12 and seen[-1].image.mean() > 150 and seen[0].image.mean() > 30
    try:
        by_opencv = frames_of(OpenCvVideo(path))
    except SourceError as error:
        assert "interlaced" in str(error) and "install GStreamer" in str(error)
    else:  # an OpenCV that converts them
        assert [frame.image.mean() for frame in by_opencv] == pytest.approx(
            [frame.image.mean() for frame in seen], abs=6
        )


@pytest.mark.parametrize("level", ["-8", "16", "24", "x", None])
def test_interlaced_pictures_are_seen_or_refused_however_quiet_ffmpeg_is(tmp_path: Path, level: str | None) -> None:
    """A quiet FFmpeg gave what happened to be in memory, and every command made it quiet."""
    path = made(tmp_path / "camcorder.mp4", [40 * number for number in range(12)], interlaced=True)
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_FFMPEG_LOGLEVEL"}
    environment.update({} if level is None else {"OPENCV_FFMPEG_LOGLEVEL": level})
    command = [
        sys.executable,
        "-m",
        "edgeseg",
        "run",
        "--capture",
        "opencv",
        "--source",
        str(path),
        "--sink",
        "null://",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG_S)
    (said,) = done.stderr.splitlines()
    assert done.returncode == 1 and "cannot convert the pictures of interlaced video" in said
    code = f"""
from pathlib import Path
from edgeseg.errors import SourceError
from edgeseg.runtime.sources.video import OpenCvVideo
try:
    with OpenCvVideo(Path({str(path)!r})) as source:
        source.read()
except SourceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=HANG_S)
    assert ("of interlaced video" if level is None else "OPENCV_FFMPEG_LOGLEVEL hides which pictures") in done.stdout


@pytest.mark.parametrize("lead", [15, 40, 58])
@pytest.mark.parametrize("gop", [1, 7, 60])
@pytest.mark.parametrize("faststart", [False, True])
def test_a_clip_trimmed_without_encoding_gives_what_it_shows(
    tmp_path: Path, lead: int, gop: int, faststart: bool
) -> None:
    path = made(tmp_path / "trimmed.mp4", [40 * number for number in range(60)], gop=gop, faststart=faststart)
    _trim(path, 40 * lead)
    for capture in ("auto", "gstreamer", "opencv"):
        seen = frames_of(source_from_uri(str(path), capture=capture))
        assert len(seen) == 60 - lead, capture
        assert seen[0].media_ns == 0 and seen[-1].image.mean() == pytest.approx(220, abs=8)


def _trim(path: Path, start_ms: int) -> None:
    """Put an edit list over the track (ISO 14496-12, 8.6.6) that begins later: how phones and ffmpeg -c copy trim."""
    data = path.read_bytes()
    at = data.index(b"elst") + 4
    version, count = data[at], struct.unpack(">I", data[at + 4 : at + 8])[0]
    assert (version, count) == (0, 1)
    scale_at = data.index(b"mdhd") + 4
    scale = struct.unpack(">I", data[scale_at + 12 : scale_at + 16])[0]
    movie_at = data.index(b"mvhd") + 4
    movie_scale = struct.unpack(">I", data[movie_at + 12 : movie_at + 16])[0]
    duration, start = struct.unpack(">Ii", data[at + 8 : at + 16])
    left = duration - start_ms * movie_scale // 1000
    new = bytearray(data)
    new[at + 8 : at + 16] = struct.pack(">Ii", left, start + start_ms * scale // 1000)
    new[movie_at + 16 : movie_at + 20] = struct.pack(">I", left)
    path.write_bytes(bytes(new))


@pytest.mark.parametrize("bframes", [0, 1, 3])
@pytest.mark.parametrize("listed", [True, False])
def test_pictures_that_are_coded_in_another_order_all_come(tmp_path: Path, bframes: int, listed: bool) -> None:
    """Without an edit list the end of the track stands before its last pictures."""
    path = made(tmp_path / "a.mp4", [40 * number for number in range(31)], bframes=bframes)
    if not listed:
        path.write_bytes(path.read_bytes().replace(b"edts", b"free"))
    for capture in ("gstreamer", "opencv"):
        seen = frames_of(source_from_uri(str(path), capture=capture))
        assert [frame.media_ns / 1e9 for frame in seen] == pytest.approx(  # type: ignore[operator]
            [0.04 * number for number in range(31)], abs=0.002
        ), capture
        assert [frame.image.mean() for frame in seen] == sorted(frame.image.mean() for frame in seen)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("whole_range", [True, False])
def test_values_of_the_whole_range_keep_their_contrast(tmp_path: Path, suffix: str, whole_range: bool) -> None:
    path = made(tmp_path / f"a{suffix}", [0, 40, 80, 120], whole_range=whole_range)
    if whole_range:
        _forget_matrix(path)
    wanted = [luma if whole_range else (luma - 16) * 255 / 219 for luma in (60, 108, 156, 205)]
    for capture in ("gstreamer", "opencv"):
        seen = [frame.image.mean() for frame in frames_of(source_from_uri(str(path), capture=capture))]
        assert seen == pytest.approx(wanted, abs=5), capture


def test_a_file_without_times_has_a_time_for_every_picture_or_for_none(tmp_path: Path, spec: ModelSpec) -> None:
    pictures = [cv2.imencode(".jpg", np.full((64, 96, 3), 20 * number, np.uint8))[1] for number in range(9)]
    path = tmp_path / "raw.mjpeg"
    path.write_bytes(b"".join(picture.tobytes() for picture in pictures))
    for capture in ("gstreamer", "opencv"):
        frames = frames_of(source_from_uri(str(path), capture=capture))
        assert [frame.media_ns for frame in frames] == [40_000_000 * number for number in range(9)], capture
        assert [round(frame.image.mean() / 20) for frame in frames] == list(range(9))


def _forget_matrix(path: Path) -> None:
    """Make the pictures' headers say no more than that values are of the whole range (H.264, E.2.1), as cameras do."""
    data = path.read_bytes()
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    said, unknown = "10111" + 2 * "00000010", "00000010"
    assert said + "00000110" in bits
    changed = bits.replace(said + "00000110", said + unknown)
    path.write_bytes(int(changed, 2).to_bytes(len(data), "big"))


def test_the_times_of_joined_recordings_go_on(tmp_path: Path) -> None:
    path = made(tmp_path / "one.ts", [40 * number for number in range(25)])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(3 * path.read_bytes())
    for capture in ("gstreamer", "opencv"):
        times = [frame.media_ns for frame in frames_of(source_from_uri(str(joined), capture=capture))]
        assert len(times) == 75 and times[-1] == pytest.approx(74 * 40_000_000, abs=400_000_000), capture
        assert all(later > earlier for earlier, later in zip(times, times[1:])), capture  # type: ignore[operator]


@pytest.mark.parametrize("suffix", [".MTS", ".m2ts", ".3gp", ".h264", ".flv", ".WMV", ".vob"])
def test_a_video_may_be_called_as_recorders_call_it(tmp_path: Path, suffix: str) -> None:
    path = made(tmp_path / "a.mp4", [0, 40, 80]).rename(tmp_path / f"a{suffix}")
    assert len(frames_of(source_from_uri(str(path)))) == 3


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("capture", ["gstreamer", "opencv"])
def test_a_phone_held_anyhow_gives_an_upright_picture(tmp_path: Path, turn: int, capture: str) -> None:
    path = made(tmp_path / "phone.mp4", [0, 40, 80], mark=True)
    data = bytearray(path.read_bytes())
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[turn]
    at = data.index(b"tkhd") + 44  # the matrix (ISO 14496-12, 8.3.2), by which players turn it clockwise
    data[at : at + 20] = struct.pack(">5i", cos << 16, sin << 16, 0, -sin << 16, cos << 16)
    path.write_bytes(bytes(data))
    image = frames_of(source_from_uri(str(path), capture=capture))[0].image
    assert image.shape[:2] == ((96, 64) if turn in (90, 270) else (64, 96))
    corners = [image[:8, :8], image[:8, -8:], image[-8:, -8:], image[-8:, :8]]
    assert int(np.argmax([corner.mean() for corner in corners])) == turn // 90


def test_a_source_without_a_picture_is_an_error_in_every_reader(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole.mp4", [0, 40, 80])
    _trim(whole, 120)
    for capture in ("gstreamer", "opencv"):
        with pytest.raises(SourceError, match="without a picture|cannot be opened"):
            frames_of(source_from_uri(str(whole), capture=capture))
    with pytest.raises(SourceError, match="ends without a picture"):
        frames_of(source_from_uri("gst://videotestsrc num-buffers=0"))


@pytest.mark.parametrize("longer", [1, 4, 6, 50, 10_000])
def test_pictures_that_are_a_small_part_of_a_recording_all_come(tmp_path: Path, longer: int) -> None:
    """What else it holds, sound or pictures that begin late, is so many times as long."""
    path = made(tmp_path / "recording.mp4", [40 * number for number in range(31)])
    data = bytearray(path.read_bytes())
    at = data.index(b"mvhd") + 4 + 16
    data[at : at + 4] = struct.pack(">I", longer * struct.unpack(">I", data[at : at + 4])[0])
    path.write_bytes(bytes(data))
    for capture in ("gstreamer", "opencv"):
        assert len(frames_of(source_from_uri(str(path), capture=capture))) == 31, capture


@pytest.mark.parametrize(
    ("name", "kept_by"),
    [("a.mov", "alawenc ! qtmux"), ("a.mkv", "flacenc ! matroskamux"), ("a.mp4", "wavenc"), ("a.avi", "avimux")],
)
def test_sound_without_pictures_is_said_at_once(tmp_path: Path, name: str, kept_by: str) -> None:
    path = tmp_path / name
    sound = f"audiotestsrc num-buffers=200 ! audioconvert ! {kept_by} ! filesink location={path}"
    subprocess.run(["gst-launch-1.0", "-q", *sound.split()], check=True, timeout=HANG_S)
    with pytest.raises(SourceError, match="holds no pictures, only audio/x-raw"):
        frames_of(source_from_uri(str(path), capture="gstreamer"))
    with pytest.raises(SourceError, match="cannot be opened as a video"):
        frames_of(source_from_uri(str(path), capture="opencv"))


TIMES = st.lists(st.integers(20, 3000), min_size=1, max_size=12).map(
    lambda gaps: [sum(gaps[:number]) for number in range(len(gaps) + 1)]
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times_ms=TIMES)
def test_pictures_stand_at_the_sources_times_in_every_sink(
    tmp_path: Path, spec: ModelSpec, times_ms: list[int]
) -> None:
    source = made(tmp_path / "vfr.mkv", times_ms)
    frames = frames_of(source_from_uri(str(source)))
    wanted = [time_ms / 1000 for time_ms in times_ms]
    assert [frame.media_ns / 1e9 for frame in frames] == pytest.approx(wanted, abs=0.002)  # type: ignore[operator]
    for suffix in (".mp4", ".mkv", ".avi"):
        out = tmp_path / f"out{suffix}"
        out.unlink(missing_ok=True)
        sink = VideoSink(out, Painter(spec), lambda name: 30.0)
        for frame in frames:
            sink.write(segmentation_of(frame))
        sink.close()
        times = times_of(out)
        if suffix == ".avi":
            # A constant rate: a pause is kept, and so are pictures that come faster than the rate. The last picture is
            # repeated for as long as it lasts in the source, which is at most as long as the one before it.
            last_s = wanted[-1] - wanted[-2]
            assert wanted[-1] - 0.04 <= times[-1] <= wanted[-1] + last_s + (len(frames) + 2) / 30
        else:
            assert times == pytest.approx(wanted, abs=0.003)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times_ms=TIMES, name=st.sampled_from(["", "gate"]))
def test_a_replay_gives_the_sources_times_to_every_sink(
    tmp_path: Path, spec: ModelSpec, times_ms: list[int], name: str
) -> None:
    source, folder = made(tmp_path / "vfr.mkv", times_ms), tmp_path / "sinks"
    shutil.rmtree(folder, ignore_errors=True)
    told = {}
    for turn, uri in (("first", str(source)), ("again", f"replay://{folder}/first/r.edgerec")):
        out = folder / turn
        out.mkdir(parents=True)
        run = Run(ThresholdEngine(), spec)
        run.add(source_from_uri(uri), name if turn == "first" else "")
        context = SinkContext(spec, Painter(spec), run.state)
        for sink in (
            "o.mp4",
            "o.mkv",
            "o.avi",
            "jsonl://o.jsonl",
            "csv://o.csv",
            "coco://c.json",
            "record://r.edgerec",
        ):
            scheme, separator, file = sink.rpartition("://")
            run.add_sink(sink_from_uri(f"{scheme}{separator}{out / file}", context))
        run.run()
        lines = [json.loads(line) for line in (out / "o.jsonl").read_text().splitlines()]
        rows = list(csv.DictReader((out / "o.csv").read_text().splitlines()))
        images = json.loads((out / "c.json").read_text())["images"]
        with Recording(out / "r.edgerec") as recording:
            kept = [recording.frame(row) for row in recording.order]
        told[turn] = {
            **{f"o{suffix}": times_of(out / f"o{suffix}") for suffix in (".mp4", ".mkv", ".avi")},
            "rate": cv2.VideoCapture(str(out / "o.mp4")).get(cv2.CAP_PROP_FPS),
            "jsonl": [line["time_s"] for line in lines],
            "csv": sorted({float(row["time_s"]) for row in rows}),
            "coco": [image["time_s"] for image in images],
            "record": [(frame.media_ns, frame.duration_ns) for frame in kept],
        }
    assert told["first"]["jsonl"] == pytest.approx([time_ms / 1000 for time_ms in times_ms], abs=0.002)
    assert told["again"] == told["first"]


def segmentation_of(frame: Frame) -> Segmentation:
    return Segmentation(frame, np.zeros((8, 8), np.uint8), {}, 3)


def test_the_last_picture_lasts_as_long_as_in_the_source(tmp_path: Path, spec: ModelSpec) -> None:
    source = made(tmp_path / "slow.mp4", [1000 * number for number in range(5)])
    out = tmp_path / "out.mp4"
    sink = VideoSink(out, Painter(spec), lambda name: 1.0)
    for frame in frames_of(source_from_uri(str(source))):
        sink.write(segmentation_of(frame))
    sink.close()
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == pytest.approx(1.0, abs=0.01), "5 pictures in 5 s"


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(16, 130), width=st.integers(16, 130))
def test_pictures_of_any_size_are_written(tmp_path: Path, spec: ModelSpec, height: int, width: int) -> None:
    for suffix in (".mp4", ".mkv"):
        out = tmp_path / f"odd{suffix}"
        out.unlink(missing_ok=True)
        sink = VideoSink(out, Painter(spec, legend=False), lambda name: 10.0)
        for index in range(3):
            sink.write(segmentation(np.zeros((height, width), np.uint8), index))
        sink.close()
        seen = frames_of(source_from_uri(str(out)))
        assert len(seen) == 3
        assert seen[0].image.shape[:2] == tuple(max(16, side + side % 2) for side in (height, width))
        picture = Painter(spec, legend=False).picture(segmentation(np.zeros((height, width), np.uint8), 2))
        wider, higher = (seen[0].image.shape[axis] - picture.shape[axis] for axis in (1, 0))
        whole = np.pad(picture, ((0, higher), (0, wider), (0, 0)), mode="edge").astype(int)
        assert np.abs(whole - seen[2].image).mean() < 12, "what is added continues the picture"


SIZES = st.lists(st.tuples(st.integers(24, 200), st.integers(24, 200)), min_size=2, max_size=6)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, suffix=st.sampled_from([".mp4", ".avi"]))
def test_pictures_of_several_sizes_stand_whole_in_one_video(
    tmp_path: Path, spec: ModelSpec, sizes: list[tuple[int, int]], suffix: str
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / f"out{suffix}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    out.unlink(missing_ok=True)
    for number, size_hw in enumerate(sizes):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((*size_hw, 3), 220, np.uint8))
    sink = VideoSink(out, Painter(spec, 0.0), lambda name: 10.0)
    for frame in frames_of(source_from_uri(str(folder))):
        sink.write(segmentation_of(frame))
    remark = sink.remark
    sink.close()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == suffix] == [out.name], "no parts"
    assert bool(remark) == (len(set(sizes)) > 1)
    height, width = sizes[0]
    seen = frames_of(source_from_uri(str(out)))
    assert len(seen) == len(sizes)
    for (high, wide), frame in zip(sizes, seen):
        scale = min(height / high, width / wide)
        bright = frame.image[:height, :width].mean(2) > 110
        rows = np.flatnonzero(bright.sum(1) > wide * scale / 2)
        columns = np.flatnonzero(bright.sum(0) > high * scale / 2)
        for found, side, room in ((rows, high * scale, height), (columns, wide * scale, width)):
            assert abs(len(found) - side) <= 2 and abs(found[0] - (room - side) / 2) <= 2, "whole, in the middle"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_file_whose_end_is_missing_is_said_to_be_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".avi":
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
        for index in range(30):
            writer.write(np.full((64, 96, 3), 8 * index, np.uint8))
        writer.release()
    else:
        made(path, [40 * number for number in range(30)], faststart=True)
    assert missing_bytes(path) == 0 and len(frames_of(source_from_uri(str(path)))) == 30
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    for capture in ("gstreamer", "opencv"):
        with pytest.raises(SourceError, match="truncated"):
            frames_of(source_from_uri(str(path), capture=capture))


NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & set(b"\0/") and name[:1] != b".")
HARD = [
    b"14:05:32",
    b"my%20holiday",
    b"clip%02d",
    b"a[1]",
    b"\xef\xbb\xbfbom",
    b"Stra\xdfe",
    b'q"u\\o te',
    b"-x",
    b"\n",
]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(NAMES, st.sampled_from(HARD)))
def test_a_video_of_any_name_is_read_and_reported(tmp_path: Path, spec: ModelSpec, name: bytes) -> None:
    whole = tmp_path / "whole.mp4"
    if not whole.exists():
        made(whole, [0, 40, 80])
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".mp4"))
    shutil.copy(whole, path)
    try:
        for capture in ("gstreamer", "opencv"):
            source = source_from_uri(str(path), capture=capture)
            frames = frames_of(source)
            assert len(frames) == 3, capture
            source.description.encode()
        table = tmp_path / "out.csv"
        table.unlink(missing_ok=True)
        sink = sink_from_uri(f"csv://{table}", context(spec))
        sink.write(segmentation_of(Frame(frames[1].image, 1, 0, path.stem, media_ns=frames[1].media_ns)))
        sink.close()
        (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
        assert float(row["time_s"]) == pytest.approx(0.04, abs=0.001)
    finally:
        path.unlink()
