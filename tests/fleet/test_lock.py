"""One deployment at a time on a board, and no step outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from edgeseg.fleet.driver import is_gone, this_driver
from tests.fleet.rig import BoardRig, Fleet, descendants, require_whole, until
from tests.fleet.test_deploy import rows_of
from tests.fleet.test_kills import SCRIPT, step

BOOT = Path("/proc/sys/kernel/random/boot_id")


class Hanging(BoardRig):
    """A board whose edgeseg checks golden frames and does not come to an end."""

    def hang(self) -> None:
        program = self.folder / "edgeseg"
        self._was = program.read_text()
        program.write_text(self._was.replace("exec ", '[ "$1" != verify ] || exec sleep 300\nexec ', 1))

    def go_on(self) -> None:
        (self.folder / "edgeseg").write_text(self._was)

    def require_quiet(self) -> None:
        """Nothing is left of what ran there."""
        until(lambda: not descendants(self.pid), "a step outlives its deployment")


@pytest.fixture
def board(fleet: Fleet) -> Hanging:
    board = fleet.board("gate", made=Hanging)
    assert isinstance(board, Hanging)
    board.hang()
    return board


def test_interrupted(fleet: Fleet, board: Hanging, old: Path) -> None:
    assert fleet.killed_at("gate: golden frames", old, by=signal.SIGINT) == 130
    assert not board.link.exists()
    board.require_quiet()
    board.go_on()
    assert fleet.deploy(old).returncode == 0
    require_whole(board, old)


def test_a_step_that_takes_too_long_ends_there_too(fleet: Fleet, board: Hanging, old: Path) -> None:
    row = rows_of(fleet.deploy(old, "--json", "--timeout", 2))["gate"]
    assert [row[key] for key in ("result", "step", "message")] == ["rolled back", "golden frames", "no end after 2 s"]
    board.require_quiet()
    assert board.files() == [], "the copy and the lock are gone"


def test_a_second_deployment_says_who_is_at_work_and_takes_over_from_the_dead(
    fleet: Fleet, board: Hanging, old: Path, new: Path
) -> None:
    with subprocess.Popen(fleet.words(old), stdout=subprocess.PIPE, text=True, cwd=fleet.folder) as first:
        assert first.stdout is not None
        assert any("golden frames" in line for line in first.stdout)
        row = rows_of(fleet.deploy(new, "--json"))["gate"]
        assert (row["result"], row["step"]) == ("failed", "look") and f"process {first.pid}" in row["message"], row
        assert "another deployment is at work there" in row["message"]
        first.kill()
    board.go_on()
    assert fleet.deploy(new).returncode == 0
    board.require_quiet()
    require_whole(board, new)


# The script alone


def ticks() -> int:
    return round(float(Path("/proc/uptime").read_text().split()[0]) * 100)


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def taken(root: Path, token: str = "mine", gone: str = "-") -> str:
    """Who has the lock after a look."""
    done = step(root, "look", str(root), "", "1" * 64, token, "me@here 1 2 x", gone)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[0]


def locked(root: Path, token: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A step of whoever has the lock, with somebody at the other end of its standard input."""
    ours, theirs = os.pipe()
    try:
        words = ("sh", str(SCRIPT), "locked", str(root), token, *words)
        return subprocess.run(words, stdin=ours, capture_output=True, text=True, timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("boot", "ago", "who", "is_taken"),
    [
        ("this", 2900, "nobody", False),
        ("this", 3100, "nobody", True),
        ("this", 99_999, "running", False),
        ("this", 3100, "reused", True),
        ("other", 0, "nobody", True),
        ("other", 0, "running", True),
        ("", 0, "", True),
        (None, 0, "", True),
    ],
)
def test_a_lock_is_left_when_its_step_has_ended_and_nobody_came_for_a_while(
    boot: str | None, ago: int, who: str, is_taken: bool, tmp_path: Path
) -> None:
    (tmp_path / "lock").symlink_to("theirs them@there 7 8 y")
    start = {"running": start_of(os.getpid()), "reused": "1"}.get(who, "")
    text = f"{BOOT.read_text().strip() if boot == 'this' else boot} {ticks() - ago} {os.getpid()} {start}\n"
    if boot is not None:
        (tmp_path / "lock.theirs").write_text(text if boot else "")
    said = taken(tmp_path)
    assert said == (f"root {tmp_path}" if is_taken else "busy theirs them@there 7 8 y")
    assert os.readlink(tmp_path / "lock").split()[0] == ("mine" if is_taken else "theirs")
    assert (tmp_path / "lock.theirs").exists() == (not is_taken)
    lost = locked(tmp_path, "theirs", "forget", str(tmp_path))
    assert lost.returncode == is_taken and ("somebody else took the deployment over" in lost.stderr) == is_taken


def test_a_lock_of_a_process_that_is_gone_is_taken_at_once_and_one_of_mine_is_mine(tmp_path: Path) -> None:
    assert taken(tmp_path, "first").startswith("root")
    assert taken(tmp_path, "first").startswith("root")
    assert taken(tmp_path).startswith("busy first")
    assert taken(tmp_path, gone="first").startswith("root")
    assert locked(tmp_path, "mine", "unlock", str(tmp_path), "mine").returncode == 0
    assert not list(tmp_path.glob("lock*"))


def test_a_step_that_nobody_can_end_keeps_its_lock(tmp_path: Path) -> None:
    """As a program that sudo runs as another user: its deployment is gone, and it is not."""
    assert taken(tmp_path, "first").startswith("root")
    with subprocess.Popen(["sleep", "60"]) as program:
        now = f"{BOOT.read_text().strip()} {ticks()} {program.pid} {start_of(program.pid)}\n"
        (tmp_path / "lock.first").write_text(now)
        assert taken(tmp_path, gone="first").startswith("busy first")
        program.kill()
    assert taken(tmp_path, gone="first").startswith("root")


def test_a_driver_is_gone_when_its_process_has_ended() -> None:
    me = this_driver()
    name, pid, start, place = me.split()
    assert not is_gone(me) and is_gone(f"{name} {pid} 1 {place}")
    assert is_gone(f"{name} 999999999 {start} {place}")
    for other in ("", "x", f"{name} {pid} {start} other", f"{name} {pid} - {place}", f"{name} {pid} {start} -"):
        assert not is_gone(other)
