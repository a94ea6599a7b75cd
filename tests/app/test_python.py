"""Runs and single images from Python: what is wrong is one clear error, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import edgeseg
from edgeseg import EdgesegError, EndOfStream, Frame, FrameSink, FrameSource, ImageError, RunConfig, UsageError
from edgeseg.app.shipped import SHIPPED

STREET = "demo://street?frames=3&size=160x120"
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


class Pictures(FrameSource):
    """Three pictures; counts how often it was closed."""

    description, is_live = "pictures", False

    def __init__(self) -> None:
        self.left, self.closed = 3, 0

    def open(self) -> None:
        pass

    def read(self) -> Frame:
        self.left -= 1
        if self.left < 0:
            raise EndOfStream
        return Frame(IMAGE, 3 - self.left, 0, "a")

    def close(self) -> None:
        self.closed += 1


class Kept(FrameSink):
    description = "kept"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.closed = 0

    def write(self, result: edgeseg.Segmentation) -> None:
        self.shapes.append(result.classes.shape)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


def test_own_objects_are_read_written_and_closed() -> None:
    source, sink, seen = Pictures(), Kept(), []
    summary = edgeseg.run(RunConfig(SHIPPED), sources=(one for one in [source]), sinks=[sink], on_result=seen.append)
    assert summary["frames"] == len(seen) == 3 and summary["ended"] == "end of stream"
    assert sink.shapes == [(60, 80)] * 3 and source.closed and sink.closed


def test_a_run_in_a_thread_and_again() -> None:
    """Signals belong to the main thread and to commands; a run leaves them alone."""
    done: list[Any] = []
    for _ in range(2):
        work = threading.Thread(target=lambda: done.append(edgeseg.run(RunConfig(SHIPPED), sources=[Pictures()])))
        work.start()
        work.join()
    assert [summary["frames"] for summary in done] == [3, 3]


@pytest.mark.parametrize("where", ["on_result", "source", "sink"])
def test_what_a_program_raises_comes_back_as_it_was(where: str) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(where)

    source, sink = Pictures(), Kept()
    more: dict[str, Any] = {"on_result": fail} if where == "on_result" else {}
    if where == "source":
        source.read = fail  # type: ignore[assignment, method-assign]
    if where == "sink":
        sink.write = fail  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError, match=where):
        edgeseg.run(RunConfig(SHIPPED), sources=[source], sinks=[sink], **more)
    assert source.closed and sink.closed


def test_a_keyboard_interrupt_ends_a_run_with_its_summary() -> None:
    def interrupt(result: edgeseg.Segmentation) -> None:
        raise KeyboardInterrupt

    source = Pictures()
    summary = edgeseg.run(RunConfig(SHIPPED), sources=[source], on_result=interrupt)
    assert summary["ended"] == "interrupted" and source.closed


_SOURCE, _SINK = Pictures(), Kept()


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        (RunConfig(SHIPPED), {}, "say where frames come from: `camera` 0, or `sources`"),
        (RunConfig(SHIPPED, camera=0, sources=[STREET]), {}, "say where frames come from"),
        (RunConfig("nothing.edgeseg", sources=[STREET]), {}, "nothing.edgeseg cannot be read"),
        ({"sources": [STREET]}, {}, "a run takes a RunConfig, got a dict"),
        (RunConfig(SHIPPED), {"sources": [STREET]}, "are objects of FrameSource, got a str; what is named goes into"),
        (RunConfig(SHIPPED, sources=[STREET]), {"sinks": [print]}, "are objects of FrameSink, got a builtin"),
        (RunConfig(SHIPPED), {"sources": [_SOURCE, _SOURCE]}, "one of `sources` is given twice"),
        (RunConfig(SHIPPED, sources=[STREET]), {"sinks": [_SINK, _SINK]}, "one of `sinks` is given twice"),
    ],
)
def test_what_is_no_run_is_refused(config: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgesegError, match=message):
        edgeseg.run(config, **more)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("alarm", {"actions": ["log"]}, "`actions` needs a rule"),
        ("monitoring", {"drift_frames": "kept"}, "`drift_frames` needs `drift`"),
        ("page", {"preview": "8080"}, "`preview` is HOST:PORT"),
        ("page", {"preview": "rtsp://me:pw@h"}, r"`preview` is HOST:PORT.*\*\*\*@h"),
    ],
)
def test_it_is_refused_before_an_engine_is_built(
    part: str, values: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeseg.app import run
    from edgeseg.app.config import AlarmConfig, MonitoringConfig, PageConfig

    def built(*_: object, **__: object) -> None:
        raise AssertionError("an engine takes minutes to build")

    monkeypatch.setattr(run, "opened_engine", built)
    kind = {"alarm": AlarmConfig, "monitoring": MonitoringConfig, "page": PageConfig}[part]
    with pytest.raises(UsageError, match=message):
        edgeseg.run(RunConfig(SHIPPED, sources=[STREET], **{part: kind(**values)}))


def test_views_of_an_image_are_segmented_as_their_copies() -> None:
    with edgeseg.open_engine(edgeseg.load(), "onnxruntime") as engine:
        for view in (IMAGE[:, ::-1], IMAGE[::2, ::2], IMAGE[..., ::-1], np.asfortranarray(IMAGE), IMAGE[:1, :1]):
            whole = edgeseg.segment(engine, np.ascontiguousarray(view))
            found = edgeseg.segment(engine, view)
            assert found.classes.shape == view.shape[:2] and (found.ids == whole.ids).all()


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (IMAGE[..., 0], r"\(60, 80\) uint8"),
        (IMAGE[..., :1], r"\(60, 80, 1\) uint8"),
        (np.concatenate([IMAGE, IMAGE[..., :1]], 2), r"\(60, 80, 4\) uint8"),
        (IMAGE[None], r"\(1, 60, 80, 3\) uint8"),
        (IMAGE.transpose(2, 0, 1), r"\(3, 60, 80\) uint8"),
        (IMAGE / np.float32(255), "float32"),
        (IMAGE.astype(np.uint16), "uint16"),
        (IMAGE > 3, "bool"),
        (IMAGE[:0], r"\(0, 80, 3\) uint8"),
        (IMAGE.tolist(), "a list"),
        ("photo.jpg", "a str"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, seen: str) -> None:
    with edgeseg.open_engine(edgeseg.load(), "onnxruntime") as engine, pytest.raises(
        ImageError, match=f"got {seen}|{seen}$"
    ):
        edgeseg.segment(engine, image)


def test_a_bundle_is_no_engine_and_a_path_no_bundle() -> None:
    with pytest.raises(UsageError, match="got a Bundle; edgeseg.open_engine opens one"):
        edgeseg.segment(edgeseg.load(), IMAGE)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="got a str; edgeseg.load reads one"):
        edgeseg.open_engine("street.edgeseg")  # type: ignore[arg-type]
