from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.errors import SourceError, UsageError
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.recording.comparison import ReplayComparison
from edgeseg.runtime.recording.replay import ReplaySource, comparison_from_uri, replay_from_uri
from edgeseg.runtime.recording.sink import RecordSink
from edgeseg.runtime.sources import EndOfStream
from edgeseg.spec import ModelSpec
from tests.fakes import FakeClock
from tests.runtime.test_recording import SPEC, record, result_of, state_of


def all_frames(source: ReplaySource) -> list[Frame]:
    frames = []
    with source:
        try:
            while True:
                frame = source.read()
                if frame is not None:
                    frames.append(frame)
        except EndOfStream:
            return frames


def test_the_same_frames_come_with_the_same_gaps_every_time(tmp_path: Path) -> None:
    record(tmp_path / "a", [result_of(index) for index in (0, 3, 4, 9)])
    source = ReplaySource(tmp_path / "a")
    assert not source.is_live and source.drops == {"unrecorded": 6}
    for _ in range(2):
        frames = all_frames(source)
        assert [(frame.index, frame.name, frame.source) for frame in frames] == [
            (index, f"{index:06d}", "0") for index in (0, 3, 4, 9)
        ]
        np.testing.assert_array_equal(frames[3].image, result_of(9).frame.image)
    with source:
        np.testing.assert_array_equal(source.recorded_ids(9), result_of(9).ids)
        with pytest.raises(SourceError, match="no frame 5"):
            source.recorded_ids(5)


def test_pace_keeps_the_spacing(tmp_path: Path) -> None:
    clock = FakeClock()
    clock.now_ns = 10**12
    record(tmp_path / "a", [result_of(index) for index in (1, 2, 500)])
    source = ReplaySource(tmp_path / "a", pace=True, clock_ns=clock, sleep=lambda s: clock.advance_ms(1000 * s))
    arrived = []
    with source, pytest.raises(EndOfStream):
        while True:
            frame = source.read()
            if frame is not None:
                assert clock.now_ns == frame.captured_ns
                arrived.append((clock.now_ns - 10**12) // 10**6)
    assert arrived == [0, 1, 499]


def test_several_sources_share_a_timeline_or_one_is_chosen(tmp_path: Path) -> None:
    with RecordSink(tmp_path / "a", SPEC, "e", state_of("left", "right")) as sink:
        for index, name in ((0, "right"), (2, "left"), (1, "right"), (4, "left"), (3, "right")):
            sink.write(result_of(index, name))
    frames = all_frames(ReplaySource(tmp_path / "a"))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    one = ReplaySource(tmp_path / "a", source="left")
    assert [frame.index for frame in all_frames(one)] == [2, 4]
    with one:
        np.testing.assert_array_equal(one.recorded_ids(4), result_of(4).ids)
    with pytest.raises(UsageError, match="no source 'up'; it has 'left', 'right'"):
        ReplaySource(tmp_path / "a", source="up")
    with ReplaySource(tmp_path / "a") as both, pytest.raises(SourceError, match="say which one"):
        both.recorded_ids(4)


def test_the_uri_chooses_source_and_pace(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with RecordSink(path, SPEC, "e", state_of("left", "right")) as sink:
        sink.write(result_of(0, "left"))
        sink.write(result_of(0, "right", (32, 32)))
        sink.write(result_of(1, "left"))
    assert [frame.image.shape[0] for frame in all_frames(replay_from_uri(f"replay://{path}?source=right"))] == [32]
    assert "at the recorded pace" in replay_from_uri(f"replay://{path}?pace=1").description
    with comparison_from_uri(f"replay://{path}?source=left", SPEC) as comparison:
        comparison.write(result_of(1, "called otherwise"))
        assert comparison.frames == 1  # type: ignore[attr-defined]
    for uri in ("replay://", f"replay://{path}?speed=2", f"replay://{path}?pace=x"):
        with pytest.raises(UsageError, match=r"replay://FILE\?source=NAME&pace=0\|1"):
            replay_from_uri(uri)


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "a", [])
    with pytest.raises(SourceError, match="holds no frame"):
        ReplaySource(tmp_path / "a")


def test_a_comparison_counts_what_differs(tmp_path: Path) -> None:
    results = [result_of(index) for index in range(4)]
    record(tmp_path / "a", results)
    with ReplayComparison(tmp_path / "a", SPEC) as same:
        assert isinstance(same, ReplayComparison)
        for result in results:
            same.write(Segmentation(Frame(result.frame.image, result.frame.index, 0, "x", source="0"), result.ids, {}))
        assert same.to_json() == {"frames": 4, "agreement": 1, "miou": 1, "iou": {"road": 1, "car": 1, "sky": 1}}
    with ReplayComparison(tmp_path / "a", SPEC) as other:
        assert isinstance(other, ReplayComparison)
        changed = results[0].ids.copy()
        changed[:32] = (changed[:32] + 1) % 3
        other.write(Segmentation(results[0].frame, changed, {}))
        other.write(Segmentation(result_of(77).frame, changed, {}))  # was not recorded
        assert other.frames == 1 and other.to_json()["agreement"] == 0.5
    classes = ModelSpec(("a", "b"), ((0, 0, 0), (1, 1, 1)), (64, 96))
    with pytest.raises(UsageError, match="same classes"):
        ReplayComparison(tmp_path / "a", classes)
