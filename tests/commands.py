"""Commands of edgeseg as people type them, each in a process of its own.

Most of the time of a short command is that of its imports. So the first of each name is started as people start it,
and those that follow are forks of a server that has imported what they import (tests/command_server.py). All else is
theirs: working directory, environment, streams, exit code, and the end of the interpreter.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Mapping

from tests import HANG_S

_WITH_TORCH = ("compile", "train")
_READ_WHEN_USED = ("COLUMNS", "EDGESEG_", "HOME", "NO_COLOR", "PATH", "PYTEST_CURRENT_TEST", "TMPDIR", "XDG_")
"""How names of variables begin that no library reads while it is imported."""


def run_command(
    words: list[str], cwd: Path, environment: Mapping[str, str], **how: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m edgeseg WORDS`` to its end; ``how`` is for subprocess.run, which starts it anew."""
    name = words[0] if words else ""
    if name in _met and not how and _turn.acquire(blocking=False):
        try:
            return forked(words, cwd, environment)
        finally:
            _turn.release()
    _met.add(name)
    command = [sys.executable, "-m", "edgeseg", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=HANG_S, **how)


def forked(words: list[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command as a fork of the server whose libraries were imported under the same variables."""
    read = {name: value for name, value in environment.items() if not name.startswith(_READ_WHEN_USED)}
    with_torch = words[:1] in ([name] for name in _WITH_TORCH)
    key = (with_torch, *sorted(read.items()))
    if key not in _servers:
        _servers[key] = _Server(environment, *(["torch"] if with_torch else []))
    return _servers[key].run(words, cwd, environment)


class _Server:
    def __init__(self, environment: Mapping[str, str], *words: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("command_server.py")), *words]
        # A group to end it and its command by; a session of its own would leave this run's share of the machine.
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=os.setpgrp
        )

    def run(self, words: list[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="edgeseg-command-") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            for path in (out, err):
                path.touch()
            asked = {"words": words, "cwd": str(cwd), "environment": dict(environment), "out": str(out)}
            try:
                self._process.stdin.write(json.dumps({**asked, "err": str(err)}) + "\n")
                self._process.stdin.flush()
                if not select.select([self._process.stdout], [], [], HANG_S)[0]:
                    raise subprocess.TimeoutExpired(words, HANG_S)
                code = int(self._process.stdout.readline())
            except BaseException:
                os.killpg(self._process.pid, signal.SIGKILL)  # the command too
                _servers.clear()
                raise
            return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


_met: set[str] = set()
_servers: dict[Any, _Server] = {}
_turn = threading.Lock()
"""A server has one command at a time; who comes meanwhile starts its own."""
