"""Passwords in the addresses of a run are in nothing that it says, serves or writes."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.runtime.test_deadline import connack_only, server

pytestmark = pytest.mark.system

MARKS = ("S3cr", "Et99")
TAKEN = ("S3cr Et99", "S3cr@Et99", "S3cr:Et99", "S3cr%2FEt99", "S3cr%40Et99", "S3cr'Et99", 'S3cr"Et99', "S3cr\\Et99")
CUT = ("S3cr Et99", "S3cr/Et99", "S3cr#Et99", "S3cr?Et99", "12/S3cr@Et99", "S3cr]Et99", "[S3crEt99")
QUERIES = ("password=S3crEt99", "access_token=S3cr%26Et99", "user=admin&pwd=S3crEt99", "X-Amz-Signature=S3crEt99")


class Page:
    """The page of a run."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str) -> str:
        return self._ask("GET", path)[1]

    def put(self, uri: str, name: str) -> tuple[int, str]:
        return self._ask("POST", "/api/sources", json.dumps({"uri": uri, "name": name}))

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, text

    def wait(self, wanted: Any, why: str) -> None:
        until = time.monotonic() + 120
        while True:
            try:
                if wanted(json.loads(self.get("/api/state"))["run"]):
                    return
            except OSError:
                pass
            assert time.monotonic() < until, why
            time.sleep(0.1)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unseen(what: str, text: str) -> None:
    for mark in MARKS:
        for form in (mark, quote(mark), mark.encode().hex()):
            assert form not in text, f"{what}: {text[max(0, text.find(form) - 200) :][:400]}"


def test_no_password_leaves_a_run(port: int, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("paho.mqtt")
    sources = [f"{scheme}://admin:{password}@127.0.0.1:1/main" for scheme in ("http", "rtsp") for password in TAKEN[:4]]
    sources += [f"http://127.0.0.1:1/video.mjpg?{query}" for query in QUERIES]
    listed = tmp_path / "cameras.streams"
    listed.write_text("".join(f'"{source}" name=c{number}\n' for number, source in enumerate(sources)))
    with server(connack_only) as broker:
        words = ["--source", str(listed), "--source", "demo://street?fps=5&size=160x120", "--max-restarts", "0"]
        for sink in (
            f"mqtt://admin:S3cr%20Et99@127.0.0.1:{broker}/t",
            "record://a.edgerec",
            "jsonl://a.jsonl",
            "csv://a.csv",
        ):
            words += ["--sink", sink]
        for action in (
            f"mqtt://admin:S3cr%20Et99@127.0.0.1:{broker}/a",
            "http://admin:S3cr Et99@127.0.0.1:1/hook",
            "http://127.0.0.1:1/services/S3crEt99?key=S3crEt99",
            "jsonl:b.jsonl",
            "log",
        ):
            words += ["--on-alarm", action]
        words += ["--alarm", "area(road) >= 0", "--preview", f"127.0.0.1:{port}", "--json"]
        command = [sys.executable, "-m", "edgeseg", "run", *words]
        with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, cwd=tmp_path)
        try:
            page = Page(port)
            failing = len(sources)
            page.wait(
                lambda run: run["frames"] > 2 and sum(bool(source["error"]) for source in run["sources"]) >= failing,
                "not all sources failed",
            )
            added = [password for password in TAKEN if not set(password) & set(" !'\"\\")]
            for number, password in enumerate(added):
                status, text = page.put(f"http://admin:{password}@127.0.0.1:1/x.mjpg", f"n{number}")
                _unseen("answer", text)
                assert status == 201, text
            for number, password in enumerate(CUT):
                for scheme in ("http", "rtsp", "ftp", "file"):
                    status, text = page.put(f"{scheme}://admin:{password}@127.0.0.1:1/x.mjpg", f"m{number}{scheme}")
                    _unseen("answer", text)
                    assert status >= 400, text
            failing += len(added)
            page.wait(lambda run: sum(bool(source["error"]) for source in run["sources"]) >= failing, "not added")
            for path in ("/", "/app.js", "/metrics", "/api/state", "/api/events", "/api/sources", "/healthz"):
                _unseen(path, page.get(path))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    written = {path.name: path.read_bytes().decode("latin-1") for path in tmp_path.iterdir() if path != listed}
    assert {"out", "err", "a.edgerec", "a.jsonl", "a.csv", "b.jsonl"} <= set(written)
    for name, text in written.items():
        _unseen(name, text)
    assert len(json.loads(written["out"])["sources"]) == failing + 1 and "Traceback" not in written["err"]
