from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.errors import SinkError, UsageError
from edgeseg.images import read_image, read_mask
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.sinks import sink_from_uri
from edgeseg.spec import ModelSpec
from tests.runtime.results import context


@pytest.fixture
def result() -> Segmentation:
    image = np.full((64, 96, 3), 100, np.uint8)
    classes = np.zeros((64, 96), np.uint8)
    classes[:, 48:] = 2
    return Segmentation(Frame(image, 7, 0, "street-7"), classes, {"infer": 12.3456})


def test_painter_mixes_the_palette_in(spec: ModelSpec, result: Segmentation) -> None:
    painter = Painter(spec, alpha=0.25)
    assert tuple(painter.mask(result.classes)[0, 0]) == (128, 64, 128)[::-1]
    assert tuple(painter.overlay(result.frame.image, result.classes)[0, 0]) == (107, 91, 107)
    assert tuple(painter.mask(np.full((1, 1), 9, np.uint8))[0, 0]) == (0, 0, 0)


def test_folder_keeps_ids_and_picture(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    painter = Painter(spec)
    with sink_from_uri(str(tmp_path / "out"), context(spec)) as sink:
        sink.write(result)
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/street-7.png"), result.classes)
    overlay = read_image(tmp_path / "out/overlays/street-7.png")
    np.testing.assert_array_equal(overlay, painter.overlay(result.frame.image, result.classes))


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv"])
def test_video_can_be_read_back(spec: ModelSpec, result: Segmentation, tmp_path: Path, name: str) -> None:
    painter = Painter(spec)
    with sink_from_uri(str(tmp_path / name), context(spec, fps=10)) as sink:
        for index in range(5):
            sink.write(replace(result, frame=replace(result.frame, index=index)))
        assert not (tmp_path / name).exists(), "the name appears only when the video is whole"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    capture = cv2.VideoCapture(str(tmp_path / name))
    read, picture = capture.read()
    shown_ms = [capture.get(cv2.CAP_PROP_POS_MSEC)]
    while capture.read()[0]:
        shown_ms.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    assert read and np.diff(shown_ms) == pytest.approx([100] * 4)
    expected = painter.overlay(result.frame.image, result.classes)
    assert np.abs(picture[:, 8:40].astype(int) - expected[:, 8:40].astype(int)).mean() < 12


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_another_frame_size_begins_another_part(
    spec: ModelSpec, result: Segmentation, tmp_path: Path, suffix: str
) -> None:
    smaller = Segmentation(Frame(result.frame.image[:32], 8, 0, "x"), result.classes[:32], {})
    with sink_from_uri(str(tmp_path / f"o.{suffix}"), context(spec)) as sink:
        sink.write(result)
        sink.write(smaller)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"o-2.{suffix}", f"o.{suffix}"]
    heights = [cv2.VideoCapture(str(path)).read()[1].shape[0] for path in sorted(tmp_path.iterdir())]
    assert heights == [32, 64]


@pytest.mark.parametrize("by_source", [False, True])
def test_several_sources_never_write_into_each_other_s_files(
    spec: ModelSpec, result: Segmentation, tmp_path: Path, by_source: bool
) -> None:
    left, right = (replace(result, frame=replace(result.frame, source=name)) for name in ("left", "right"))
    for target in ("o.mp4", "masks"):
        with sink_from_uri(str(tmp_path / target), context(spec, by_source=by_source)) as sink:
            for one in (left, right, left):
                sink.write(one)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if "overlays" not in str(path))
    if by_source:
        assert names == ["masks/masks/left/street-7.png", "masks/masks/right/street-7.png", "o-left.mp4", "o-right.mp4"]
    else:
        assert names == ["masks/masks/right/street-7.png", "masks/masks/street-7.png", "o-right.mp4", "o.mp4"]
    with pytest.raises(UsageError, match="shows one source"):
        sink_from_uri("rtsp://127.0.0.1:8554/x", context(spec, by_source=True))


@pytest.mark.parametrize(
    "uri",
    ["rtsp://0.0.0.0:8554/x", "rtsp://:secret@0.0.0.0:8554/x", "rtsp://me@127.0.0.1:1/x", "rtsp:///x", "rtsp://[a/x"],
)
def test_an_rtsp_server_that_everybody_could_watch_is_refused(spec: ModelSpec, uri: str) -> None:
    with pytest.raises(UsageError) as said:
        sink_from_uri(uri, context(spec))
    assert "secret" not in str(said.value)


def test_a_log_never_cuts_another_file(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8 not JSON\n and no line end")
    with pytest.raises(SinkError, match="something else than JSON lines"):
        sink_from_uri(f"jsonl://{path}", context(spec)).write(result)
    assert path.read_bytes().endswith(b"no line end")


def test_what_a_killed_run_left_is_kept(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "o.partial.mp4").write_bytes(b"of a run that was killed")
    with sink_from_uri(str(tmp_path / "o.mp4"), context(spec)) as sink:
        sink.write(result)
    assert (tmp_path / "o.partial-1.mp4").read_bytes() == b"of a run that was killed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "o.partial-1.mp4"]


def test_a_failed_run_keeps_the_old_video_and_what_there_is(
    spec: ModelSpec, result: Segmentation, tmp_path: Path
) -> None:
    (tmp_path / "o.avi").write_bytes(b"old")
    with pytest.raises(RuntimeError), sink_from_uri(str(tmp_path / "o.avi"), context(spec, overwrite=True)) as sink:
        sink.write(result)
        raise RuntimeError
    assert (tmp_path / "o.avi").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.avi", "o.partial.avi"]
    assert cv2.VideoCapture(str(tmp_path / "o.partial.avi")).read()[0]


def test_jsonl_line(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for _ in range(2):  # appends
        with sink_from_uri(f"jsonl://{path}", context(spec)) as sink:
            sink.write(result)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0] == {"frame": 7, "name": "street-7", "ms": {"infer": 12.346}, "area": {"road": 0.5, "sky": 0.5}}


def test_wrong_sinks_are_refused(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"no sink 'kafka://\*\*\*@x'"):
        sink_from_uri("kafka://me:secret@x", context(spec))
    with pytest.raises(SinkError, match=r"no sink for \.gif files"):
        sink_from_uri(str(tmp_path / "a.gif"), context(spec))
    with pytest.raises(SinkError, match="is not a folder; create it first"):
        sink_from_uri(str(tmp_path / "none" / "a.mp4"), context(spec))
    with pytest.raises(SinkError, match="cannot be opened"):
        sink_from_uri(f"jsonl://{tmp_path}", context(spec))
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be created"):
        sink_from_uri(str(tmp_path / "file" / "out"), context(spec))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error(spec: ModelSpec, result: Segmentation) -> None:
    with pytest.raises(SinkError, match="No space left on device; free space"):  # noqa: SIM117
        with sink_from_uri("jsonl:///dev/full", context(spec)) as sink:
            sink.write(result)
