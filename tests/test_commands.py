"""A command that is a fork of a server does what it does in a process that began with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import forked


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["rnu", "é\udc80"],
        ["inspect", "--json"],
        ["run", "--source", "none.mp4"],
        ["run", "--source", "demo://street?frames=2&size=96x64", "--policy", "every", "--sink", "masks"],
    ],
    ids=lambda words: words[0],
)
def test_streams_code_and_files_are_those_of_a_process_of_its_own(tmp_path: Path, words: list[str]) -> None:
    environment = {**os.environ, "COLUMNS": "77", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert forked(["--version"], tmp_path, {**environment, "COLUMNS": "120"}).returncode == 0, "what begins the server"
    seen = []
    for name in ("alone", "forked", "forked again"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "alone":
            command = [sys.executable, "-m", "edgeseg", *words]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        else:
            done = forked(words, folder, environment)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        said = done.stdout if words[-1] != "masks" else "masks" in done.stdout  # it measures times
        seen.append((done.returncode, said, done.stderr, files))
    assert seen[0] == seen[1] == seen[2]


def test_an_environment_that_libraries_read_at_once_has_a_server_of_its_own(tmp_path: Path) -> None:
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "EDGESEG_X": threads}
        assert forked(["--version"], tmp_path, environment).returncode == 0
    from tests.commands import _servers

    assert {dict(key[1:])["OMP_NUM_THREADS"] for key in _servers} >= {"1", "2"}
    assert all("EDGESEG_X" not in dict(key[1:]) for key in _servers)
