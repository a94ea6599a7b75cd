"""A board with a real systemd and a real ``edgeseg run`` as its service.

systemd runs as the manager of a user. It wants a system that was booted with it, so it gets a folder ``/run/systemd``
of its own, in a namespace of its own, and a group of processes of its own. Only root makes these.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fleet.rig import BoardRig, Fleet, sha256, until
from tests.fleet.test_deploy import rows_of

SYSTEMD = Path("/lib/systemd/systemd")
GROUPS = [
    folder
    for folder in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"))
    if (folder / "cgroup.procs").is_file()
]
BOOTED = """
mount -t tmpfs none /run/systemd && mkdir /run/systemd/system || exit 1
for group in $GROUPS; do mkdir -p "$group" && echo $$ > "$group/cgroup.procs" || exit 1; done
/lib/systemd/systemd --user --log-target=console &
exec "$@"
"""
UNIT = """[Service]
Type=notify
NotifyAccess=main
Restart=always
RestartSec=0.2
ExecStart="{run}" "{link}"
"""


class SystemdBoard(BoardRig):
    """A board whose services a systemd runs."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        super().__init__(fleet, name)
        self.groups = [folder / f"edgeseg-test-{os.getpid()}" for folder in GROUPS]
        sockets = self.folder / "sockets"
        sockets.mkdir(mode=0o700)
        self.environment.update(XDG_RUNTIME_DIR=str(sockets))
        groups = f"GROUPS={' '.join(map(str, self.groups))}"
        self.before_sshd = [
            "env",
            groups,
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            BOOTED,
            "booted",
        ]
        units = self.home / ".config/systemd/user"
        units.mkdir(parents=True)
        (units / "edgeseg.service").write_text(UNIT.format(run=self.unit / "run", link=self.link))

    def start(self) -> None:
        super().start()
        end = time.monotonic() + 60
        while not (self.folder / "sockets/systemd/private").exists():
            if time.monotonic() > end:
                pytest.skip(f"systemd does not start here: {(self.folder / 'sshd.log').read_text()[-300:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        super().stop()
        for group in self.groups:
            for folder, _, _ in sorted(os.walk(group), reverse=True):
                until(lambda one=Path(folder): _is_removed(one), f"a process is left in {folder}")


def _is_removed(group: Path) -> bool:
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_a_real_run_under_systemd(fleet: Fleet, old: Path, new: Path) -> None:
    pytest.importorskip("uvicorn")
    if os.geteuid() != 0 or not SYSTEMD.exists() or not shutil.which("unshare") or not GROUPS:
        pytest.skip("a systemd of its own needs root, unshare and groups of processes")
    board = fleet.board("gate", SystemdBoard, systemctl="systemctl --user")
    source = "demo://street?size=320x240&fps=4"
    # The INT8 graph of these models is made up; it is no judge of an engine that `auto` takes.
    page = f"--engine onnxruntime --sink null:// --preview 127.0.0.1:{board.page}"

    def with_new_from(other: str) -> None:
        """Let the run of the new model have another source."""
        chosen = f'case "$(readlink "$1")" in *{sha256(new)}*) from="{other}" ;; *) from="{source}" ;; esac'
        board.runs(f'"{sys.executable}" -m edgeseg run "$1" --source "$from" {page}', before=chosen)

    patience = ("--watch", 2, "--patience", 120, "--json")
    with_new_from("nowhere.mp4")
    row = rows_of(fleet.deploy(old, *patience))["gate"]
    assert row["result"] == "live" and board.health() == 200, row
    row = rows_of(fleet.deploy(new, *patience))["gate"]
    assert (row["result"], row["step"]) == ("rolled back", "restart") and row["message"].startswith(
        "Job for edgeseg.service failed"
    ), row
    assert sha256(board.link) == sha256(old) and board.health() == 200
    with_new_from(f"{source}&frames=3")
    row = rows_of(fleet.deploy(new, *patience))["gate"]
    assert (row["result"], row["step"]) == ("rolled back", "health") and "ended by itself" in row["message"], row
    assert sha256(board.link) == sha256(old) and board.health() == 200
    with_new_from(source)
    row = rows_of(fleet.deploy(new, *patience))["gate"]
    assert row["result"] == "live" and board.health() == 200 and sha256(board.link) == sha256(new), row
    assert rows_of(fleet.deploy(new, *patience))["gate"]["result"] == "already live"
