from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.errors import SinkError, UsageError
from edgeseg.images import read_mask
from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.preview import PreviewSink
from edgeseg.runtime.preview.openapi import document
from tests.runtime.preview.client import Client
from tests.runtime.preview.loop import Alarms, Run


def test_state_tells_what_the_page_shows(client: Client, alarms: Alarms) -> None:
    alarms.on.append({"alarm": "too many cars", "source": "0"})
    client.until(lambda: bool(client.state()["alarms"]))
    state = client.state()
    assert state["run"]["sources"][0]["status"] == "streaming"
    assert 0 <= state["run"]["sources"][0]["picture_age_ms"] < 5000
    assert {"preprocess", "infer", "postprocess", "frame"} <= set(state["recent_ms"])
    assert state["alarms"] == [{"alarm": "too many cars", "source": "0"}]
    assert state["rois"] == {} and state["viewer"] is None


def test_alpha_and_classes_change_the_picture(client: Client, run: Run) -> None:
    assert client.send("POST", "/api/pause", {"paused": True}).json() == {"paused": True}
    client.until(lambda: run.state.sources["0"].dropped["paused"] > 1)

    def picture() -> np.ndarray:
        jpeg = client.get("/frame/0.jpg").body
        return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.float64)

    painted = picture()
    names = [item["name"] for item in client.state()["classes"]]
    assert client.send("POST", "/api/classes", {"hidden": names}).status == 200
    plain = picture()
    assert np.abs(painted - plain).mean() > 5
    assert client.send("POST", "/api/classes", {"hidden": ["no such"]}).status == 409
    assert client.send("POST", "/api/classes", {"hidden": []}).status == 200
    assert client.send("POST", "/api/alpha", {"alpha": 0.0}).json() == {"alpha": 0.0}
    assert np.abs(picture() - plain).mean() < 1
    assert [client.state()["alpha"], client.state()["run"]["paused"]] == [0.0, True]


def test_snapshot_is_the_frame_and_its_ids(client: Client, run: Run, tmp_path: Path) -> None:
    told = client.send("POST", "/api/snapshot", {"source": "0"})
    assert told.status == 201
    names = [told.json()[kind].rsplit("/", 1)[1] for kind in ("frame", "mask")]
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == sorted(names)
    image, label = run.rendered("0", told.json()["index"])
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "snapshots" / names[0])), image)
    np.testing.assert_array_equal(read_mask(tmp_path / "snapshots" / names[1]), label)
    download = client.get(told.json()["mask"])
    assert download.body == (tmp_path / "snapshots" / names[1]).read_bytes()
    assert download.headers["content-disposition"] == f'attachment; filename="{names[1]}"'
    assert client.send("POST", "/api/snapshot", {"source": "no such"}).status == 404


def test_a_snapshot_folder_that_cannot_be_written_is_one_line(client: Client, tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("a file")
    answer = client.send("POST", "/api/snapshot", {"source": "0"})
    assert answer.status == 409 and "no snapshot in" in answer.json()["error"]


def test_sources_come_and_go(client: Client) -> None:
    assert client.send("POST", "/api/sources", {"uri": "demo://street?seed=3", "name": "back"}).json() == {
        "name": "back"
    }
    client.until(lambda: client.get("/frame/back.jpg").status == 200)
    assert client.send("POST", "/api/sources", {"uri": "demo://street", "name": "back"}).status == 409
    assert client.ask("DELETE", "/api/sources/back").status == 200
    assert client.ask("DELETE", "/api/sources/back").status == 404
    last = client.ask("DELETE", "/api/sources/0")
    assert last.status == 409 and "last" in last.json()["error"]


def test_a_source_that_fails_is_told_without_its_password(client: Client) -> None:
    answer = client.send("POST", "/api/sources", {"uri": "rtsp://me:secret@10.0.0.1/x"})
    assert answer.status == 409
    assert answer.json() == {"error": "rtsp://***@10.0.0.1/x cannot be opened: no route to host"}


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "../secret.mp4",
        "gst://videotestsrc ! filesink location=/etc/x",
        "replay:///root/a.edgerec",
        "rtsp://",
        "http://a b",
        "rtsp://x/ ! filesink",
        "rtsp://x/!filesink",
        "/dev/video0/../../etc/passwd",
        "demo://street/../x",
        "0\n",
        "",
    ],
)
def test_files_and_pipelines_are_not_sources_for_the_page(client: Client, run: Run, uri: str) -> None:
    answer = client.send("POST", "/api/sources", {"uri": uri})
    assert answer.status == 400 and "uri" in answer.json()["error"]
    assert list(run.state.sources) == ["0"]


def test_regions(client: Client, regions: RoiSet) -> None:
    points = [[0.1, 0.1], [0.9, 0.1], [0.5, 1]]
    assert client.send("PUT", "/api/rois/lane", {"points": points}).json() == {"points": points}
    assert client.get("/api/rois/lane").json() == {"points": points} and regions.to_json() == {"rois": {"lane": points}}
    assert client.state()["rois"] == {"lane": points}
    assert client.ask("DELETE", "/api/rois/lane").status == 200
    assert client.ask("DELETE", "/api/rois/lane").status == 404
    assert client.send("PUT", "/api/rois/lane", {"points": points * 400}).status == 400
    assert client.send("PUT", "/api/rois/lane", {"points": [[0.1, 1.1]] * 3}).status == 400
    for index in range(64):
        assert client.send("PUT", f"/api/rois/r{index}", {"points": points}).status == 200
    assert client.send("PUT", "/api/rois/more", {"points": points}).status == 409


def test_health_follows_sources_and_sinks(client: Client, run: Run) -> None:
    assert client.get("/healthz").status == 200
    for status in ("stalled", "restarting", "failed", "opening", "ended"):
        run.state.sources["0"].status = status
        assert client.get("/healthz").status == 503, status
    run.state.sources["0"].status = "streaming"
    run.state.sinks[0].status = "failing"
    answer = client.get("/healthz")
    assert answer.status == 503 and answer.json()["sinks"][0]["status"] == "failing"


def test_a_stream_delivers_new_pictures_and_the_state_knows_which(client: Client) -> None:
    name = "0123456789abcdef"
    with client.stream(f"/stream/0.mjpg?viewer={name}") as pictures:
        frames = [next(pictures) for _ in range(4)]
        assert len(set(frames)) == 4
        assert all(frame.startswith(b"\xff\xd8") and frame.endswith(b"\xff\xd9") for frame in frames)
        assert client.get(f"/api/state?viewer={name}").json()["viewer"]["source"] == "0"
    client.until(lambda: client.get(f"/api/state?viewer={name}").json()["viewer"] is None)


def test_nothing_is_painted_while_nobody_watches(page: PreviewSink, run: Run, painter: Painter) -> None:
    painted: list[int] = []
    paint = painter.picture

    def counted(result):  # type: ignore[no-untyped-def]
        painted.append(result.frame.index)
        return paint(result)

    painter.picture = counted  # type: ignore[method-assign]
    client = Client(page.url)
    client.until(lambda: run.state.frames > 5)
    assert not painted
    with client.stream("/stream/0.mjpg") as one, client.stream("/stream/0.mjpg") as other:
        for _ in range(5):
            next(one)
            next(other)
    assert len(painted) >= 5
    assert len(painted) == len(set(painted)), "once per frame, for all viewers"


def test_a_viewer_that_stops_reading_is_dropped_and_others_go_on(run: Run, painter: Painter, tmp_path: Path) -> None:
    run._query = "fps=30&size=1280x720"
    with PreviewSink(run, painter, "127.0.0.1:0", snapshots=tmp_path) as sink:
        run.attach(sink)
        run.add_source("demo://street")
        client = Client(sink.url)
        client.until(lambda: client.get("/frame/0.jpg").status == 200)
        stuck = client.raw(b"GET /stream/0.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n", receive_buffer=4096)
        with stuck, client.stream("/stream/0.mjpg") as reading:
            client.until(lambda: len(sink._pictures.viewers) == 2)
            seen, end = 0, time.monotonic() + 20
            while len(sink._pictures.viewers) == 2 and time.monotonic() < end:
                next(reading)
                seen += 1
            assert len(sink._pictures.viewers) == 1 and seen > 5
            stuck.settimeout(5)
            with pytest.raises(ConnectionResetError):
                while stuck.recv(1 << 20):
                    pass
            next(reading)
        run.stop("stopped")


def test_viewers_are_counted(client: Client) -> None:
    with ExitStack() as stack:
        for _ in range(16):
            next(stack.enter_context(client.stream("/stream/0.mjpg")))
        answer = client.get("/stream/0.mjpg")
        assert answer.status == 503 and "16 viewers" in answer.json()["error"]
    client.until(lambda: client.ask("HEAD", "/stream/0.mjpg").status == 200)


def test_close_ends_open_streams_in_time(page: PreviewSink, client: Client) -> None:
    viewers = [client.raw(b"GET /stream/0.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(4)]
    client.until(lambda: len(page._pictures.viewers) == 4)
    started = time.monotonic()
    page.close()
    assert time.monotonic() - started < 2
    assert not [thread for thread in threading.enumerate() if thread.name == "edgeseg-preview"]
    for viewer in viewers:
        viewer.close()
    page.close()


def test_addresses(run: Run, painter: Painter, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SinkError, match="Address already in use; choose another port"):
            PreviewSink(run, painter, f"127.0.0.1:{taken.getsockname()[1]}", snapshots=tmp_path)
    with pytest.raises(UsageError, match="can be reached by others; give a token"):
        PreviewSink(run, painter, "0.0.0.0:0", snapshots=tmp_path)
    with pytest.raises(UsageError, match="has 5 characters, it needs at least 16"):
        PreviewSink(run, painter, "0.0.0.0:0", token="short", snapshots=tmp_path)
    for address in ("8000", "127.0.0.1", "http://127.0.0.1:80", "127.0.0.1:99999", "::1:80"):
        with pytest.raises(UsageError, match="is HOST:PORT"):
            PreviewSink(run, painter, address, snapshots=tmp_path)


def test_document_is_served(client: Client) -> None:
    assert client.get("/openapi.json").json() == document()
