from __future__ import annotations

import http.server
import itertools
import json
import socketserver
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

from edgeseg.errors import SinkError, UsageError
from edgeseg.images import read_image
from edgeseg.runtime.alarms.actions import (
    ACTIONS,
    ActionContext,
    AlarmAction,
    absolute_action,
    action_from_text,
    action_paths,
    actions_help,
    is_secret_action,
)
from edgeseg.runtime.alarms.parser import parse
from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.alarms.sink import AlarmSink
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.spec import ModelSpec
from tests import HANG_S
from tests.runtime.brokers import Broker, Listener, free_port
from tests.runtime.results import segmentation
from tests.servers import Quiet, serving

EMPTY = np.zeros((64, 96), np.uint8)
BUSY = EMPTY.copy()
BUSY[:, :48] = 1


class Told:
    """What was told, by level."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.changed = threading.Condition()

    def __call__(self, level: str, who: str, text: str) -> None:
        with self.changed:
            self.events.append((level, who, text))
            self.changed.notify_all()

    def wait_for(self, part: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: any(part in text for _, _, text in self.events), 20), self.events


@pytest.fixture
def told() -> Told:
    return Told()


class Hook(http.server.ThreadingHTTPServer):
    """A web server that keeps what is posted to it, and answers 503 ``failures`` times first."""

    daemon_threads = False

    def __init__(self, port: int = 0, failures: int = 0) -> None:
        self.failures = failures
        self.records: list[dict[str, Any]] = []
        self.headers: list[tuple[str, str, str | None]] = []
        self.changed = threading.Condition()
        super().__init__(("127.0.0.1", port), _Handler)

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.records) >= count, 20), self.records


class _Handler(Quiet):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.changed:
            self.server.failures -= 1
            status = 503 if self.server.failures >= 0 else 200
            if status == 200:
                self.server.records.append(json.loads(body))
                self.server.headers.append((self.path, self.headers["Content-Type"], self.headers["Authorization"]))
            self.server.changed.notify_all()
        self.send_response(status)
        self.end_headers()


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    with serving(server):
        yield server


def alarm_sink(spec: ModelSpec, told: Told, actions: list[AlarmAction], *texts: str) -> AlarmSink:
    rois = RoiSet(spec.classes)
    rois.put("left", [[0, 0], [0.25, 0], [0.25, 1], [0, 1]])
    return AlarmSink([parse(text, spec.classes, rois.names) for text in texts], spec, rois, actions, told)


def test_only_the_transitions_act(spec: ModelSpec, told: Told, tmp_path: Path) -> None:
    painter = Painter(spec)
    texts = ["log", f"jsonl:{tmp_path}/alarms.jsonl", f"snapshot:{tmp_path}/shots"]
    actions = [action_from_text(text, ActionContext(painter, told)) for text in texts]
    with alarm_sink(spec, told, actions, "crowd: area(car) > 20% of roi(left) for 2 frames") as sink:
        for index, ids in enumerate([EMPTY, BUSY, BUSY, BUSY, EMPTY]):
            sink.write(segmentation(ids, index, "door/1"))
            assert [alarm["alarm"] for alarm in sink.active()] == (["crowd"] if index in (2, 3) else [])
    lines = [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
    at = [datetime.fromisoformat(line.pop("at")) for line in lines]
    assert all(abs((datetime.now(timezone.utc) - moment).total_seconds()) < 60 for moment in at)
    values = "area(car) in roi(left)"
    assert lines == [
        {"alarm": "crowd", "on": True, "source": "door/1", "frame": 2, "values": {values: 1.0}},
        {"alarm": "crowd", "on": False, "source": "door/1", "frame": 4, "values": {values: 0.0}},
    ]
    assert told.events == [
        ("warning", "alarm", f"crowd: on at source door/1 frame 2 ({values} = 100.0%)"),
        ("warning", "alarm", f"crowd: off at source door/1 frame 4 ({values} = 0.0%)"),
    ]
    shots = sorted(path.name for path in (tmp_path / "shots").iterdir())
    assert shots == ["door_1-000002-crowd-on.png", "door_1-000004-crowd-off.png"]
    expected = painter.picture(segmentation(BUSY))
    np.testing.assert_array_equal(read_image(tmp_path / "shots" / shots[0]), expected)
    assert sink.counts() == {"crowd": 1}
    assert [action["done"] for action in sink.to_json()["actions"]] == [2, 2, 2]
    json.dumps(sink.to_json())


def test_sources_are_followed_apart(spec: ModelSpec, told: Told) -> None:
    sink = alarm_sink(spec, told, [], "source(b): area(car) > 1%", "area(car) > 10% for 2 frames", "change(car) > 40%")
    sink.write(segmentation(BUSY, 0, "a"))
    sink.write(segmentation(EMPTY, 0, "b"))
    assert sink.active() == []
    sink.write(segmentation(BUSY, 1, "b"))
    sink.write(segmentation(BUSY, 1, "a"))
    assert [(alarm["alarm"], alarm["source"]) for alarm in sink.active()] == [
        ("source(b): area(car) > 1%", "b"),
        ("change(car) > 40%", "b"),
        ("area(car) > 10% for 2 frames", "a"),
    ]


def test_an_alarm_goes_off_when_its_source_is_over(spec: ModelSpec, told: Told, tmp_path: Path) -> None:
    texts = ["log", f"jsonl:{tmp_path}/alarms.jsonl", f"snapshot:{tmp_path}/shots"]
    actions = [action_from_text(text, ActionContext(Painter(spec), told)) for text in texts]
    over: set[str] = set()
    rules = [parse("crowd: area(car) > 20%", spec.classes)]
    with AlarmSink(rules, spec, RoiSet(spec.classes), actions, told, over.__contains__) as sink:
        sink.write(segmentation(BUSY, 0, "door"))
        sink.write(segmentation(BUSY, 1, "door"))
        sink.write(segmentation(EMPTY, 0, "yard"))
        assert [alarm["source"] for alarm in sink.active()] == ["door"]
        over.add("door")
        for index in (1, 2):
            sink.write(segmentation(EMPTY, index, "yard"))
        assert not sink.active() and sink.counts() == {"crowd": 1}
        over.clear()
        sink.write(segmentation(BUSY, 2, "door"))
        assert sink.counts() == {"crowd": 2}, "a source of the same name begins anew"
    first, off, second = [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
    assert first["on"] and second["on"] and not off["on"]
    assert (off["source"], off["frame"], off["values"], off["why"]) == ("door", 1, {}, "its source ended")
    assert told.events[1] == ("warning", "alarm", "crowd: off at source door frame 1 (its source ended)")
    assert sorted(path.name for path in (tmp_path / "shots").iterdir()) == [
        "door-000000-crowd-on.png",
        "door-000002-crowd-on.png",
    ]


def test_seconds_are_those_of_the_camera(spec: ModelSpec, told: Told) -> None:
    sink = alarm_sink(spec, told, [], "area(car) > 1% for 2 s")
    active = []
    for index, captured_s in enumerate((10, 11, 11.9, 12)):
        sink.write(segmentation(BUSY, index, captured_ns=int(captured_s * 1e9)))
        active.append(bool(sink.active()))
    assert active == [False, False, False, True]


def test_a_rule_that_cannot_be_evaluated_is_told_once(spec: ModelSpec, told: Told) -> None:
    sink = alarm_sink(spec, told, [], "confidence(car) > 1%", "area(car) > 1%")
    for index in range(3):
        sink.write(segmentation(BUSY, index))
    assert [alarm["alarm"] for alarm in sink.active()] == ["area(car) > 1%"]
    assert len(told.events) == 1 and "gives no confidence" in told.events[0][2]


def test_an_action_that_fails_does_not_stop_the_others(spec: ModelSpec, told: Told, tmp_path: Path) -> None:
    painter, disk = Painter(spec), tmp_path / "disk"
    disk.mkdir()
    texts = [f"snapshot:{disk}/shots", f"jsonl:{disk}/alarms", "log"]
    actions = [action_from_text(text, ActionContext(painter, told)) for text in texts]
    sink = alarm_sink(spec, told, actions, "area(car) > 1%")
    disk.rename(tmp_path / "gone")
    disk.write_text("a file is in the way")
    sink.write(segmentation(BUSY, 5))
    assert [level for level, _, _ in told.events] == ["error", "error", "warning"]
    disk.unlink()
    disk.mkdir()
    sink.write(segmentation(BUSY, 6))
    assert json.loads((disk / "alarms").read_text())["frame"] == 5, "kept when there was a disk again"
    sink.close()
    assert [(action.done, action.lost) for action in actions] == [(0, 1), (1, 0), (1, 0)]
    assert len(told.events) == 3


@pytest.mark.system
def test_a_webhook_gets_every_record_in_order(spec: ModelSpec, told: Told, hook: Hook) -> None:
    hook.failures = 1
    url = f"http://cam:s3cr%40t@127.0.0.1:{hook.server_port}/hook?token=s3cr2t"
    action = action_from_text(url, ActionContext(Painter(spec), told))
    sink = alarm_sink(spec, told, [action], "area(car) > 1%")
    for index in range(10):
        sink.write(segmentation((EMPTY, BUSY)[index % 2], index))
    hook.wait_for(9)
    sink.close()
    sink.close()
    assert [(record["frame"], record["on"]) for record in hook.records] == [(n, n % 2 == 1) for n in range(1, 10)]
    assert hook.headers[0] == ("/hook?token=s3cr2t", "application/json", "Basic Y2FtOnMzY3JAdA==")
    assert (action.done, action.lost) == (9, 0)
    errors = [text for level, _, text in told.events if level == "error"]
    assert errors == [f"webhook http://127.0.0.1:{hook.server_port} answers 503; it is tried again"]


@pytest.mark.system
@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
def test_a_webhook_follows_nobody_and_counts_no_record_that_was_not_taken(
    spec: ModelSpec, told: Told, hook: Hook, status: int, scheme: str
) -> None:
    asked: list[str] = []

    class Moved(_Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Location", f"{scheme}://localhost:{hook.server_port}/landing")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Moved)) as port:
        action = action_from_text(f"http://cam:s3cret@127.0.0.1:{port}/hook", ActionContext(Painter(spec), told))
        sink = alarm_sink(spec, told, [action], "area(car) > 1%")
        sink.write(segmentation(BUSY, 0))
        told.wait_for(
            f"webhook http://127.0.0.1:{port} answers {status}; records go to no other place: write the address that "
            "takes them; it is tried again"
        )
        sink.close()
    assert asked and set(asked) == {"/hook"} and not hook.records and not hook.headers
    assert (action.done, action.lost) == (0, 1)


@pytest.mark.system
def test_a_webhook_that_is_away_holds_nobody_up_and_comes_back(spec: ModelSpec, told: Told) -> None:
    port = free_port()
    action = action_from_text(f"http://127.0.0.1:{port}/s3cret-path", ActionContext(Painter(spec), told))
    sink = alarm_sink(spec, told, [action], "area(car) > 1%")
    sink.write(segmentation(BUSY, 0))
    told.wait_for(f"webhook http://127.0.0.1:{port} cannot be reached: Connection refused; it is tried again")
    server = Hook(port)
    with serving(server):
        server.wait_for(1)
        sink.close()
        assert (action.done, action.lost) == (1, 0)
    assert "s3cret" not in json.dumps([*told.events, sink.to_json(), sink.description])


@pytest.mark.system
def test_what_waits_is_bounded_and_counted(spec: ModelSpec, told: Told) -> None:
    action = action_from_text(f"http://127.0.0.1:{free_port()}/", ActionContext(Painter(spec), told))
    sink = alarm_sink(spec, told, [action], "area(car) > 1%")
    for index in range(400):
        sink.write(segmentation((EMPTY, BUSY)[index % 2], index))
    assert action.to_json()["waiting"] == 256 and action.lost == 399 - 256
    sink.close()
    told.wait_for("256 records could not be sent")
    assert (action.done, action.lost) == (0, 399)


@pytest.mark.system
def test_alarms_over_mqtt(spec: ModelSpec, told: Told, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    try:
        listener = Listener(broker.port, "yard/alarm")
        action = action_from_text(f"mqtt://127.0.0.1:{broker.port}/yard/alarm", ActionContext(Painter(spec), told))
        sink = alarm_sink(spec, told, [action], "area(car) > 1%")
        sink.write(segmentation(BUSY, 0))
        listener.wait_for(lambda messages: len(messages) == 1)
        broker.kill()
        listener.close()
        # What is handed over before the loss is noticed is sent again without a word.
        frames = itertools.count(1)
        while not any("it is tried again" in text for _, _, text in told.events):
            last = next(frames)
            assert last < 10 * HANG_S
            sink.write(segmentation(EMPTY if last % 2 else BUSY, last))
            time.sleep(0.1)
        broker.start()
        listener = Listener(broker.port, "yard/alarm")
        listener.wait_for(lambda messages: any(json.loads(payload)["frame"] == last for _, payload, _ in messages))
        sink.close()
        listener.close()
    finally:
        broker.kill()


def test_what_makes_no_sense_is_refused(spec: ModelSpec, told: Told, tmp_path: Path) -> None:
    painter = Painter(spec)
    for text in ("", "mail", "jsonl:", "ftp://u:secret@host/a"):
        with pytest.raises(UsageError, match="no alarm action .*; there are log, jsonl:FILE") as caught:
            action_from_text(text, ActionContext(painter, told))
        assert "secret" not in str(caught.value)
    for text in ("https://", "http://u:secret@host:x/"):
        with pytest.raises(UsageError, match="a webhook is https") as caught:
            action_from_text(text, ActionContext(painter, told))
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be created"):
        action_from_text(f"snapshot:{tmp_path}/file/shots", ActionContext(painter, told))
    with pytest.raises(UsageError, match="two alarms are called 'area.car. > 1%'; give one another name"):
        alarm_sink(spec, told, [], "area(car) > 1%", "area( car ) > 1%")


def test_a_region_of_a_rule_stays(spec: ModelSpec, told: Told) -> None:
    rois = RoiSet(spec.classes)
    rois.put("left", [[0, 0], [0.25, 0], [0.25, 1], [0, 1]])
    AlarmSink([parse("area(car) in roi(left) > 1%", spec.classes, rois.names)], spec, rois, [], told)
    with pytest.raises(UsageError, match="an alarm uses the region 'left'"):
        rois.remove("left")


WRITTEN = {
    "log": ((), ()),
    "jsonl:FILE": ((Path("FILE"),), ()),
    "snapshot:FOLDER": ((), (Path("FOLDER"),)),
    "mqtt://HOST/TOPIC": ((), ()),
    "https://HOST/PATH": ((), ()),
}
"""Action -> the files that it writes, and the folders that it fills."""


def test_the_table_says_of_every_action_where_it_goes() -> None:
    assert {text: action_paths(text) for text in WRITTEN} == WRITTEN
    assert set(WRITTEN) <= set(actions_help().split(", "))
    here = Path.cwd()
    for kind in filter(lambda kind: kind.shown, ACTIONS.values()):
        name, colon, place = kind.shown.partition(":")
        files, folders = action_paths(kind.shown)
        assert bool(files or folders) == kind.is_path and bool(folders) == kind.is_folder, kind.shown
        assert absolute_action(kind.shown) == (f"{name}:{here}/{place}" if kind.is_path else kind.shown)
    secrets = {"https://HOST/PATH", "http://host/key", "mqtt://u:p@host/topic"}
    assert {text for text in {*WRITTEN, *secrets} if is_secret_action(text)} == secrets
