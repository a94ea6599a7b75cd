from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeseg.errors import SinkError, SourceError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.pipeline import STAGES, run_pipeline
from edgeseg.runtime.sources.demo import StreetSource
from edgeseg.spec import ModelSpec
from edgeseg.street import CLASSES, PALETTE
from tests.fakes import CollectingSink, ScriptedSource, ThresholdEngine

BRIGHT, DARK = (np.full((32, 48, 3), value, np.uint8) for value in (250, 5))


def run(source: Any, spec: ModelSpec, sinks: Any, **how: Any) -> Any:
    return run_pipeline(source, ThresholdEngine(), spec, sinks, latest=how.pop("latest", False), **how)


def test_every_frame_reaches_every_sink_in_order_at_its_own_size(spec: ModelSpec) -> None:
    source, one, two = ScriptedSource([BRIGHT, None, DARK, BRIGHT]), CollectingSink(), CollectingSink()
    state = run(source, spec, [one, two])
    assert one.names == two.names == ["000000", "000001", "000002"]
    assert [int(m.max()) for m in one.maps] == [1, 0, 1] and one.maps[0].shape == (32, 48)
    assert (state.frames, state.ended, state.dropped) == (3, "end of stream", 0)
    assert (source.opened, source.closed, one.closed, two.closed) == (1, 1, 1, 1)


def test_every_stage_is_timed_for_every_frame(spec: ModelSpec) -> None:
    state = run(ScriptedSource([BRIGHT] * 5), spec, [])
    latencies = state.latencies()
    assert set(latencies) == set(STAGES)
    for stage in ("preprocess", "infer", "postprocess", "sinks", "frame", "age"):
        assert latencies[stage].count == 5
    parts = sum(latencies[stage].mean_ms for stage in ("preprocess", "infer", "postprocess", "sinks"))
    assert latencies["frame"].mean_ms >= parts


@pytest.mark.parametrize("latest", [False, True])
def test_a_broken_source_keeps_what_was_done_and_closes_all(spec: ModelSpec, latest: bool) -> None:
    source, sink = ScriptedSource([BRIGHT, SourceError("unplugged")], live=latest), CollectingSink()
    with pytest.raises(SourceError, match="unplugged"):
        run(source, spec, [sink], latest=latest)
    assert (len(sink.maps), sink.closed, source.closed) == (1, 1, 1)


def test_a_broken_sink_stops_and_closes_all(spec: ModelSpec) -> None:
    class Full(CollectingSink):
        def write(self, result: Segmentation) -> None:
            raise SinkError("disk full")

    source, fine, full = ScriptedSource([BRIGHT] * 3), CollectingSink(), Full()
    with pytest.raises(SinkError, match="disk full"):
        run(source, spec, [fine, full])
    assert (fine.closed, full.closed, source.closed) == (1, 1, 1)


def test_ctrl_c_ends_a_run_like_the_end_of_the_stream(spec: ModelSpec) -> None:
    sink = CollectingSink()
    state = run(ScriptedSource([BRIGHT, KeyboardInterrupt(), BRIGHT]), spec, [sink])
    assert (state.frames, state.ended, sink.closed) == (1, "interrupted", 1)


def test_frame_limit(spec: ModelSpec) -> None:
    state = run(ScriptedSource([BRIGHT] * 9), spec, [], max_frames=4)
    assert (state.frames, state.ended) == (4, "frame limit")


def test_live_miou_only_when_the_classes_are_the_sources(spec: ModelSpec) -> None:
    uri = "demo://street?frames=2&size=96x64"
    street = ModelSpec(CLASSES, PALETTE, (64, 96), ignore_id=11)
    scored = run(StreetSource(uri, sleep=lambda s: None), street, [])
    assert scored.confusion.counts.sum() == 2 * 64 * 96 and scored.to_json()["miou"] is not None
    assert run(StreetSource(uri, sleep=lambda s: None), spec, []).to_json()["miou"] is None


def test_on_frame_sees_progress(spec: ModelSpec) -> None:
    seen: list[int] = []
    run(ScriptedSource([BRIGHT] * 3), spec, [], on_frame=lambda state, result: seen.append(state.frames))
    assert seen == [1, 2, 3]
