"""What must not work."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Iterator

import pytest

from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.preview import PreviewSink
from tests.runtime.preview.client import Client
from tests.runtime.preview.loop import Run

TOKEN = "a-token-of-some-length"
READS = [
    "/",
    "/app.js",
    "/api/state",
    "/api/events",
    "/api/sources",
    "/metrics",
    "/healthz",
    "/openapi.json",
    "/frame/0.jpg",
]


@pytest.fixture
def guarded(run: Run, painter: Painter, tmp_path: Path) -> Iterator[Client]:
    """A page on all addresses, with a token."""
    with PreviewSink(run, painter, "0.0.0.0:0", token=TOKEN, snapshots=tmp_path) as sink:
        run.attach(sink)
        run.add_source("demo://street")
        client = Client(sink.url.replace("0.0.0.0", "127.0.0.1"))
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        client.until(lambda: client.get("/frame/0.jpg", bearer).status == 200)
        yield client
        run.stop("stopped")


@pytest.mark.parametrize("path", READS)
def test_everything_needs_the_token(guarded: Client, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Cookie": f"edgeseg_preview={TOKEN}"},
    ):
        answer = guarded.get(path, headers)
        assert answer.status == 401 and "token" in answer.json()["error"] and TOKEN not in answer.body.decode()
    assert guarded.get(path, {"Authorization": f"Bearer {TOKEN}"}).status == 200


def test_the_token_is_changed_for_a_cookie(guarded: Client) -> None:
    answer = guarded.get(f"/?token={TOKEN}")
    cookie = answer.headers["set-cookie"]
    assert answer.status == 303 and answer.headers["location"] == "/"
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    assert guarded.get("/api/state", {"Cookie": "a=b; " + cookie.split(";")[0]}).status == 200
    for path in ("/?token=wrong", "/?token=", "/?token=%00%ff", f"/api/state?token={TOKEN}"):
        refused = guarded.get(path)
        assert refused.status == 401 and "set-cookie" not in refused.headers
    assert guarded.send("POST", "/api/pause", {"paused": True}).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/%252e%252e%252fetc%252fpasswd",
        "//etc/passwd",
        "/page/app.js",
        "/api/snapshots/..%2f..%2fsecret.png",
        "/api/snapshots/../../secret.png",
        "/api/snapshots/%2e%2e%2fsecret.png",
        "/api/snapshots/%252e%252e%252fsecret.png",
        "/api/snapshots/%2fetc%2fpasswd",
        "/api/snapshots/secret.png%00.png",
        "/api/snapshots/secret.png",
        "/api/snapshots/",
        "/frame/../../secret.png.jpg",
        "/frame/%00.jpg",
        "/stream/..%2f..%2fsecret.mjpg",
        "/app.js/../../sink.py",
    ],
)
def test_nothing_else_on_the_disk_is_reached(client: Client, tmp_path: Path, path: str) -> None:
    (tmp_path / "snapshots").mkdir()
    for folder in (tmp_path, tmp_path / "snapshots"):
        (folder / "secret.png").write_bytes(b"SECRET")
    answer = client.get(path)
    assert answer.status in (404, 400) and b"SECRET" not in answer.body and b"root:" not in answer.body
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_may_not_act_or_look(client: Client, run: Run, headers: dict[str, str]) -> None:
    for method, path, body in (
        ("POST", "/api/pause", {"paused": True}),
        ("POST", "/api/alpha", {"alpha": 0.0}),
        ("POST", "/api/sources", {"uri": "demo://street"}),
        ("PUT", "/api/rois/a", {"points": [[0, 0], [1, 0], [1, 1]]}),
    ):
        assert client.send(method, path, body, headers).status == 403
    assert client.ask("DELETE", "/api/sources/0", headers=headers).status == 403
    assert client.get("/frame/0.jpg", headers).status == 403
    assert not run.state.paused and list(run.state.sources) == ["0"]


def test_our_own_page_may(client: Client) -> None:
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec-Fetch-Site": "same-origin"}
    assert client.send("POST", "/api/alpha", {"alpha": 0.5}, own).status == 200
    assert client.get("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_another_site_is_not_json(client: Client, run: Run, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert client.ask("POST", "/api/pause", b'{"paused": true}', headers).status == 415
    assert not run.state.paused


def test_other_names_are_refused(client: Client) -> None:
    for host in (
        "evil.example",
        f"evil.example:{client.port}",
        "127.0.0.1.evil.example",
        "",
        "localhost.evil",
        "[::1].x",
    ):
        assert client.get("/api/state", {"Host": host}).status in (421, 400), host
    for host in ("localhost", f"127.0.0.1:{client.port}", "[::1]:80", "192.168.1.7", socket.gethostname()):
        assert client.get("/api/state", {"Host": host}).status == 200, host


@pytest.mark.parametrize("path", READS)
def test_headers_on_every_answer(client: Client, path: str) -> None:
    for answer in (client.get(path), client.get("/no-such"), client.get(path, {"Origin": "http://evil.example"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"alpha": NaN}',
        b'{"alpha": Infinity}',
        b'{"alpha": 1e999}',
        b'{"alpha": true}',
        b'{"alpha": "0.5"}',
        b'{"alpha": 2}',
        b'{"alpha": 0.5, "more": 1}',
        b"[" * 50_000,
        b'{"alpha":' + b"9" * 20_000 + b"}",
    ],
)
def test_malformed_bodies(client: Client, painter: Painter, body: bytes) -> None:
    answer = client.ask("POST", "/api/alpha", body, {"Content-Type": "application/json"})
    assert answer.status == 400 and set(answer.json()) == {"error"} and "\n" not in answer.json()["error"]
    assert painter.alpha == 0.5


def test_bodies_are_bounded(client: Client) -> None:
    json = {"Content-Type": "application/json"}
    assert client.ask("POST", "/api/alpha", b" " * 65_537, json).status == 413
    head = b"POST /api/alpha HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with client.raw(head + b"Content-Length: 99999999999\r\n\r\n") as huge:
        assert b" 413 " in huge.recv(200)
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with client.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2) as endless:
        assert b" 413 " in endless.recv(200)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"POST /api/alpha HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/alpha HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_harmless(client: Client, data: bytes) -> None:
    try:
        with client.raw(data) as connection:
            assert connection.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))
    except (ConnectionResetError, BrokenPipeError):
        pass  # closed while it was still sending
    assert client.get("/api/state").status == 200


def test_a_slow_head_is_cut_off(client: Client) -> None:
    silent, slow = client.raw(b""), client.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    with silent, slow:
        started = time.monotonic()
        while time.monotonic() - started < 10:
            try:
                slow.sendall(b"X-A: b\r\n")
                time.sleep(0.5)
            except OSError:
                break
        assert 4 < time.monotonic() - started < 9
        assert silent.recv(10) == b""


def test_idle_connections_keep_nobody_out_and_take_few_descriptors(client: Client) -> None:
    before = len(os.listdir("/proc/self/fd"))
    idle = []
    for _ in range(400):
        with suppress(OSError):
            idle.append(client.raw(b""))
    theirs = len(idle)
    client.until(lambda: len(os.listdir("/proc/self/fd")) - theirs - before < 70)
    assert client.get("/healthz").status in (200, 503) and client.get("/api/state").status == 200
    for connection in idle:
        connection.close()
    client.until(lambda: client.get("/api/state").status == 200)


def test_slow_clients_do_not_keep_the_health_out(client: Client) -> None:
    slow = [client.raw(b"GET / HTTP/1.1\r\nHost: ") for _ in range(80)]
    assert client.get("/healthz").json()["ok"] is not None
    for connection in slow:
        connection.close()


def test_sources_are_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.runtime.preview.operations.sources._MOST_SOURCES", 3)
    added = [client.send("POST", "/api/sources", {"uri": "demo://street?fps=1&size=64x64"}).status for _ in range(4)]
    assert added == [201, 201, 409, 409]
