"""Boards on loopback: real sshd processes of this user, each with a folder, a home and a service of its own.

``systemctl`` is a stand-in on these boards, so that they need no root: it starts and ends a real process, and tells of
it what ``systemctl show`` tells. ``tests/fleet/test_systemd.py`` has a board with a real systemd.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import HANG_S

ROOT = Path(__file__).resolve().parents[2]
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

SYSTEMCTL = """#!/bin/sh
# Stands in for systemd. The unit is a script, UNIT/run.
unit=$(dirname "$0")/unit
stop() {
  [ ! -f "$unit/pid" ] || kill -9 "$(cat "$unit/pid")" 2> /dev/null
  rm -f "$unit/pid"
}
echo "$@" >> "$unit/calls"
case $1 in
  stop) stop ;;
  restart)
    stop
    [ ! -f "$unit/broken" ] || { echo "Job for $2.service failed." >&2; exit 1; }
    setsid "$unit/run" > "$unit/log" 2>&1 < /dev/null &
    echo $! > "$unit/pid"
    ;;
  show)
    state=inactive
    [ ! -f "$unit/pid" ] || { state=failed; ! kill -0 "$(cat "$unit/pid")" 2> /dev/null || state=active; }
    echo "LoadState=loaded"
    echo "ActiveState=$state"
    echo "NRestarts=$(cat "$unit/restarts" 2> /dev/null || echo 0)"
    echo "ExecStart={ path=/opt/edgeseg ; argv[]=/opt/edgeseg run $unit/edgeseg.toml ; ignore_errors=no }"
    ;;
esac
"""

SERVICE = """
# A service that reads its model at its start, says which it runs, and is not well with those named in UNIT/sick.
import hashlib, http.server, pathlib, sys
link, port, unit = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
digest = hashlib.sha256(pathlib.Path(link).read_bytes()).hexdigest()
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = (unit / "sick").exists() and digest in (unit / "sick").read_text()
        self.send_response(503 if sick and self.path == "/healthz" else 200)
        self.end_headers()
        self.wfile.write(digest.encode())
    def log_message(self, *what):
        pass
http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BoardRig:
    """One board: its folder, its sshd and its service."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name, self.folder = fleet, name, fleet.folder / name
        self.port, self.page = free_port(), free_port()
        self.home, self.root, self.unit = self.folder / "home", self.folder / "a root", self.folder / "unit"
        for one in (self.home, self.unit):
            one.mkdir(parents=True)
        self.link = self.root / "current.edgeseg"
        self._sshd: Any = None
        self.before_sshd: list[str] = []
        own = {"HOME": self.home, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": 1, "XDG_CACHE_HOME": self.home}
        self.environment = {name: str(value) for name, value in own.items()}
        self._write("systemctl", SYSTEMCTL)
        (self.folder / "service.py").write_text(SERVICE)
        self._write(
            "edgeseg", f'#!/bin/sh\necho "$1" >> "{self.folder}/calls"\nexec "{sys.executable}" -m edgeseg "$@"\n'
        )
        (self.unit / "edgeseg.toml").write_text(f"model = '{self.link}'\n")
        self.runs(f'"{sys.executable}" -S "{self.folder}/service.py" "{self.link}" {self.page} "{self.unit}"')

    def runs(self, command: str, before: str = ":") -> None:
        """Let the service be a command of a shell."""
        self._write("unit/run", f"#!/bin/sh\n{before}\nexec {command}\n")

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    @property
    def pid(self) -> int:
        """Return the process of its sshd."""
        return int(self._sshd.pid)

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def table(self, **more: str) -> str:
        """The board's table of an inventory."""
        values = {
            "address": self.address,
            "root": str(self.root),
            "command": f"'{self.folder}/edgeseg'",
            "systemctl": f"'{self.folder}/systemctl'",
            "service": "edgeseg",
            "health": f"http://127.0.0.1:{self.page}/healthz",
            "engine": "onnxruntime",
            "graph": "fp32",
            **more,
        }
        return f"[hosts.{self.name}]\n" + "".join(f'{name} = "{value}"\n' for name, value in values.items())

    def has(self, *models: Path) -> None:
        """Let the board be as deployments of these models, one after the other, leave it."""
        (self.root / "models").mkdir(parents=True, exist_ok=True)
        for name, model in zip(("current", "previous"), reversed(models)):
            kept = self.root / f"models/{sha256(model)}.edgeseg"
            kept.write_bytes(model.read_bytes())
            (self.root / f"{name}.edgeseg").symlink_to(kept)
        self.restart()

    def restart(self) -> None:
        subprocess.run([self.folder / "systemctl", "restart", "edgeseg"], check=True)
        (self.unit / "calls").unlink()

    def start(self) -> None:
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.fleet.folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {self.fleet.folder}/key.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            f"PermitRootLogin prohibit-password\nSetEnv {' '.join(f'{k}={v}' for k, v in self.environment.items())}\n"
            "Banner /etc/hostname\n"
        )
        sshd = [*self.before_sshd, str(SSHD), "-D", "-e", "-f", str(config)]
        with (self.folder / "sshd.log").open("wb") as log:
            self._sshd = subprocess.Popen(sshd, stdout=log, stderr=log, env={**os.environ, **self.environment})
        until(lambda: _answers(self.port) or self._sshd.poll() is not None, "sshd does not answer")
        assert self._sshd.poll() is None, (self.folder / "sshd.log").read_text()

    def cut(self) -> None:
        """End every command that runs there at once, as a power cut does; sshd stays."""
        for process in descendants(self._sshd.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        subprocess.run([self.folder / "systemctl", "stop", "edgeseg"], check=False)
        if self._sshd is not None:
            self.cut()
            self._sshd.kill()
            self._sshd.wait()
            self._sshd = None

    def running(self) -> str:
        """SHA-256 of the model that the service runs, as it says itself."""

        def asked() -> str:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.page}/model", timeout=5) as answer:
                return str(answer.read().decode())
            return ""

        return str(until(asked, "the service does not answer"))

    def health(self) -> int:
        """Status of the health address."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/healthz", timeout=HANG_S) as answer:
            return int(answer.status)

    def calls(self) -> list[str]:
        """The commands of edgeseg that ran there since the last question, and what systemctl was asked to do."""
        found: list[str] = []
        for path in (self.folder / "calls", self.unit / "calls"):
            if path.exists():
                found += path.read_text().splitlines()
                path.unlink()
        return [line for line in found if line.split()[0] not in ("show", "--version", "reset-failed")]

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())


class Fleet:
    """Boards, throw-away keys, and a configuration of ssh that knows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        self.config = folder / "ssh_config"
        self.config.write_text(
            f"IdentityFile {folder}/key\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
            "GlobalKnownHostsFile none\nStrictHostKeyChecking accept-new\n"
        )
        self.boards: list[BoardRig] = []
        self.inventory = folder / "fleet.toml"

    def board(self, name: str, made: Callable[[Fleet, str], BoardRig] | None = None, **more: str) -> BoardRig:
        """A board that is up and in the inventory."""
        board = (made or BoardRig)(self, name)
        self.boards.append(board)
        board.start()
        with self.inventory.open("a") as file:
            file.write(board.table(**more))
        return board

    def words(self, model: Path, *words: object) -> list[str]:
        quick = ("--watch", 0.05, "--patience", 3, "--watch-interval", 0.1, "--bench-seconds", 0)
        own = ("-i", self.inventory, "--ssh-config", self.config)
        return [sys.executable, "-m", "edgeseg", "deploy", str(model), *map(str, (*own, *quick, *words))]

    def deploy(self, model: Path, *words: object, path: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path or os.environ["PATH"]}
        command, where = self.words(model, *words), self.folder
        return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, cwd=where, env=environment)

    def killed_at(self, line: str, model: Path, *words: object, by: int = signal.SIGKILL) -> int:
        """Begin a deployment, end it by a signal as soon as it says a line, and return how it ended."""
        process = subprocess.Popen(self.words(model, *words), stdout=subprocess.PIPE, text=True, cwd=self.folder)
        assert process.stdout is not None
        with process.stdout:
            for said in process.stdout:
                if said.strip() == line:
                    process.send_signal(by)
                    return process.wait(HANG_S)
        return pytest.fail(f"it never said {line!r}")

    def stop(self) -> None:
        for board in self.boards:
            board.stop()


def require_whole(board: BoardRig, live: Path, before: Path | None = None) -> None:
    """The service runs a model, the one before it is kept, and nothing else is left."""
    assert board.running() == sha256(live)
    names = [sha256(one) for one in (live, before) if one is not None]
    links = ["current.edgeseg"] + (["previous.edgeseg"] if before is not None else [])
    assert board.files() == sorted([*links, *(f"models/{name}.edgeseg" for name in names)])
    assert before is None or sha256(board.root / "previous.edgeseg") == sha256(before)


def until(found: Any, message: str) -> Any:
    """Ask until there is an answer."""
    end = time.monotonic() + HANG_S
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
        time.sleep(0.02)
    return pytest.fail(message)


def descendants(pid: int) -> list[int]:
    """Processes below one, of any depth."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
