"""A fuzzer reads the document and holds the server to it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeseg.runtime.preview.openapi import document
from edgeseg.runtime.preview.operations import OPERATIONS
from tests import HANG_S
from tests.runtime.preview.client import Client
from tests.runtime.preview.loop import Run

pytestmark = pytest.mark.system


def test_the_server_does_what_its_document_says(client: Client, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed; pip install 'edgeseg[dev]'")
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program
    url = f"http://127.0.0.1:{client.port}"
    command = [program, "run", f"{url}/openapi.json", "--url", url, "--mode", "all", "--max-examples", "10"]
    command += [
        "--seed",
        "1",
        "--no-color",
        "--exclude-path",
        "/stream/{source}.mjpg",
        "--phases",
        "examples,coverage,fuzzing",
    ]
    command += ["--checks", "all", "--generation-database", "none", "--request-timeout", "15"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert not [event.text for event in run.state.latest_events() if event.level == "error"]


def test_every_operation_is_tried_with_a_valid_request(client: Client) -> None:
    tried = {
        ("post", "/api/alpha"): client.send("POST", "/api/alpha", {"alpha": 0.25}),
        ("get", "/api/state"): client.get("/api/state"),
        ("get", "/healthz"): client.get("/healthz"),
        ("get", "/metrics"): client.get("/metrics"),
        ("get", "/api/events"): client.get("/api/events"),
        ("get", "/frame/{source}.jpg"): client.get("/frame/0.jpg"),
    }
    for (method, path), answer in tried.items():
        said = document()["paths"][path][method]["responses"]["200"]["content"]
        assert answer.status == 200
        assert re.split("; ?", answer.headers["content-type"])[0] in said


def test_rows_say_what_their_paths_take() -> None:
    for row in OPERATIONS:
        assert re.findall(r"{(\w+)", row.path) == list(row.path_patterns), row.path
        assert (row.method in ("POST", "PUT")) == (row.body is not None), row.path
    names = [row.handler.__name__ for row in OPERATIONS]
    assert len(set(names)) == len(names)


def test_a_value_that_does_not_fit_is_refused_by_the_check_of_its_row(client: Client) -> None:
    refused = {
        "viewer is 16 hexadecimal digits": client.get("/stream/0.mjpg?viewer=me"),
        "no field 'beta'; there are alpha": client.send("POST", "/api/alpha", {"alpha": 0.5, "beta": 1}),
        "the field 'uri' is missing": client.send("POST", "/api/sources", {"name": "back"}),
        "paused is true or false": client.send("POST", "/api/pause", {"paused": 1}),
        "hidden is a list of at most 254 different texts": client.send("POST", "/api/classes", {"hidden": ["a", "a"]}),
    }
    for line, answer in refused.items():
        assert (answer.status, answer.json()) == (400, {"error": line})
