"""Surroundings that take something away: closed streams, a folder that is gone, a user that nobody knows."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeseg.cli.service import Unit
from edgeseg.engines.tensorrt.cache import EngineCache
from edgeseg.errors import UsageError
from edgeseg.runtime.preview.address import bound
from edgeseg.runtime.preview.bodies import Refusal, parsed
from edgeseg.runtime.sinks.csv_file import CsvSink
from edgeseg.spec import ModelSpec
from tests.runtime.results import segmentation

ROOT = Path(__file__).resolve().parents[1]
FRAMES = ("run", "--source", "demo://street?frames=2&fps=10")


def shell(script: str, *words: str, cwd: Path, **named: str) -> subprocess.CompletedProcess[str]:
    """A script in which ``"$@"`` is edgeseg with these words."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **named}
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "edgeseg", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={name: value for name, value in environment.items() if value},
    )


@pytest.mark.parametrize("closed", [">&-", "0<&- >&-", "2>&-", "0<&- >&- 2>&-"])
def test_closed_streams_harm_no_file(tmp_path: Path, closed: str) -> None:
    done = shell(f'"$@" {closed}', *FRAMES, "--sink", "masks", "--sink", "jsonl://lines.jsonl", cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    lines = (tmp_path / "lines.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [0, 1]


@pytest.mark.parametrize("words", [("--version",), ("inspect",), ("engines", "list")])
def test_commands_without_an_output_end_well(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = shell('"$@" >&-', *words, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("words", [("inspect",), FRAMES, ("engines", "list")])
def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = shell('mkdir gone; cd gone; rmdir ../gone; "$@"', *words, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "working directory is gone" in done.stderr


def test_a_user_without_a_name_and_home(tmp_path: Path) -> None:
    become = 'exec unshare --user --map-user=54321 --map-group=54321 env -u HOME -u XDG_CACHE_HOME -u USER "$@"'
    if shell(become.replace('"$@"', "true"), cwd=tmp_path).returncode:
        pytest.skip("this system lets nobody become a user without a name")
    done = shell(become, "engines", "list", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "XDG_CACHE_HOME" in done.stderr, done.stderr
    done = shell(become, *FRAMES, "--sink", "null://", cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


_NAMES = st.text(st.sampled_from("./\\\0\n ~a-é\ud800"), min_size=1, max_size=12) | st.sampled_from(
    ["../../../victim/autostart", "/etc/cron.d/x", "..", ".", "a/../../b", "模" * 80, "a" * 300]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=_NAMES, precision=_NAMES)
def test_an_engine_from_elsewhere_stays_in_the_cache(tmp_path: Path, model: str, precision: str) -> None:
    inside = tmp_path / "outer" / "cache" / "engines"
    shutil.rmtree(tmp_path / "outer", ignore_errors=True)
    plan = tmp_path / "came.engine"
    plan.write_bytes(b"payload")
    key = {
        "model": model,
        "precision": precision,
        "graph_sha256": "",
        "ranges_sha256": "",
        "shape": [1, 1, 3],
        "options": "{}",
        "tensorrt": "t",
        "gpu": "g",
        "compute_capability": "8.6",
        "sm_count": 1,
        "device": "",
    }
    sidecar = {
        "schema": 1,
        "key": key,
        "plan_sha256": hashlib.sha256(b"payload").hexdigest(),
        "plan_bytes": 7,
        "float_ports": False,
        "precisions": {"layers": {}, "convolutions": {}, "reformats": 0},
        "notes": [],
        "build_s": 0,
        "created": 0,
        "self_test": None,
    }
    plan.with_name("came.engine.json").write_text(json.dumps(sidecar))
    before = set(tmp_path.rglob("*"))
    added = EngineCache(inside).add(plan)
    assert added.path.parent == inside and EngineCache(inside).find(added.key)[0] is not None
    new = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert {path.parent for path in new} == {inside} and len(new) == 2


@given(st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3), st.booleans())
def test_half_letters_in_a_body_are_refused(half: str, as_name: bool) -> None:
    body = json.dumps({half: 1} if as_name else {"uri": [f"http://{half}/"]}).encode()
    if any("\ud800" <= one <= "\udbff" and "\udc00" <= two <= "\udfff" for one, two in zip(half, half[1:])):
        return  # two halves that make a letter
    with pytest.raises(Refusal, match="UTF-8"):
        parsed(body)


@pytest.mark.parametrize("token", [" " * 16, "a b" * 8, "é" * 20, "abcdefghijklmnop\n", "\t" * 20])
def test_a_token_that_no_header_carries_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="printable ASCII"):
        bound("127.0.0.1:0", token)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from("=+-@\t"),
    blank=st.sampled_from(["", " ", "  "]),
    rest=st.text(st.sampled_from("1+cmd|'/C calc'!A0\",=\n"), max_size=10),
)
def test_no_cell_is_a_formula(spec: ModelSpec, tmp_path: Path, start: str, blank: str, rest: str) -> None:
    name = f"{blank}{start}{rest}"
    classes = (f"{start}{rest.strip()}x".replace("\t", "+").replace("\n", ""), *spec.classes[1:])
    path = tmp_path / "a.csv"
    path.unlink(missing_ok=True)
    with CsvSink(path, replace(spec, classes=classes)) as sink:
        sink.write(segmentation(np.zeros((64, 96), np.uint8), 0, name))
    with path.open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if re.match(r"\s*[=+@\t-]", cell)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_exposes_little(tmp_path: Path) -> None:
    path = tmp_path / "edgeseg.service"
    path.write_text(Unit("edgeseg", "edgeseg", ("video",), ("/bin/true", "run")).text())
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.search(r"Overall exposure level for edgeseg.service: ([\d.]+)", said)
    if found is None:
        pytest.skip("this systemd-analyze reads no files")
    assert float(found.group(1)) <= 3.0, said
    # What cameras and the GPU need is left.
    assert not re.search("(PrivateDevices|DevicePolicy|ProtectClock|MemoryDenyWriteExecute)=", path.read_text())
