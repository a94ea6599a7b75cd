from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.errors import SinkError
from edgeseg.images import read_image, read_mask
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.overlay import Painter
from edgeseg.runtime.sinks import sink_from_uri
from edgeseg.spec import ModelSpec


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
    with sink_from_uri(str(tmp_path / "out"), spec, painter) as sink:
        sink.write(result)
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/street-7.png"), result.classes)
    overlay = read_image(tmp_path / "out/overlays/street-7.png")
    np.testing.assert_array_equal(overlay, painter.overlay(result.frame.image, result.classes))


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv"])
def test_video_can_be_read_back(spec: ModelSpec, result: Segmentation, tmp_path: Path, name: str) -> None:
    painter = Painter(spec)
    with sink_from_uri(str(tmp_path / name), spec, painter, fps=10) as sink:
        for _ in range(5):
            sink.write(result)
        assert not (tmp_path / name).exists(), "the name appears only when the video is whole"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    capture = cv2.VideoCapture(str(tmp_path / name))
    read, picture = capture.read()
    assert read and capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    expected = painter.overlay(result.frame.image, result.classes)
    assert np.abs(picture[:, 8:40].astype(int) - expected[:, 8:40].astype(int)).mean() < 12


def test_video_refuses_another_frame_size(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    smaller = Segmentation(Frame(result.frame.image[:32], 8, 0, "x"), result.classes[:32], {})
    with sink_from_uri(str(tmp_path / "o.avi"), spec, Painter(spec)) as sink:
        sink.write(result)
        with pytest.raises(SinkError, match="changed from 96x64 to 96x32"):
            sink.write(smaller)


def test_a_failed_run_keeps_the_old_video_and_what_there_is(
    spec: ModelSpec, result: Segmentation, tmp_path: Path
) -> None:
    (tmp_path / "o.avi").write_bytes(b"old")
    with pytest.raises(RuntimeError), sink_from_uri(str(tmp_path / "o.avi"), spec, Painter(spec)) as sink:
        sink.write(result)
        raise RuntimeError
    assert (tmp_path / "o.avi").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.avi", "o.partial.avi"]
    assert cv2.VideoCapture(str(tmp_path / "o.partial.avi")).read()[0]


def test_jsonl_line(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for _ in range(2):  # appends
        with sink_from_uri(f"jsonl://{path}", spec, Painter(spec)) as sink:
            sink.write(result)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0] == {"frame": 7, "name": "street-7", "ms": {"infer": 12.346}, "area": {"road": 0.5, "sky": 0.5}}


def test_wrong_sinks_are_refused(spec: ModelSpec, result: Segmentation, tmp_path: Path) -> None:
    painter = Painter(spec)
    with pytest.raises(SinkError, match="no sink 'mqtt://x'"):
        sink_from_uri("mqtt://x", spec, painter)
    with pytest.raises(SinkError, match=r"no video format '\.gif'"):
        sink_from_uri(str(tmp_path / "a.gif"), spec, painter)
    with pytest.raises(SinkError, match="is not a folder; create it first"):
        sink_from_uri(str(tmp_path / "none" / "a.mp4"), spec, painter)
    with pytest.raises(SinkError, match="cannot be opened"):
        sink_from_uri(f"jsonl://{tmp_path}", spec, painter)
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be created"):
        sink_from_uri(str(tmp_path / "file" / "out"), spec, painter)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error(spec: ModelSpec, result: Segmentation) -> None:
    with pytest.raises(SinkError, match="No space left on device; free space"):  # noqa: SIM117
        with sink_from_uri("jsonl:///dev/full", spec, Painter(spec)) as sink:
            sink.write(result)
