"""A deployment that is killed half-way, and run again: the board is whole."""

from __future__ import annotations

import hashlib
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fleet.rig import BoardRig, Fleet, require_whole, sha256

ME = ("token", "me@here", "-")
SCRIPT = Path(__file__).resolve().parents[2] / "edgeseg/fleet/board.sh"


def point(board: BoardRig, model: Path) -> None:
    """Let the link lead to a model, as the step ``switch`` does."""
    board.link.unlink()
    board.link.symlink_to(board.root / f"models/{sha256(model)}.edgeseg")


def test_killed_at_any_step(fleet: Fleet, old: Path, new: Path) -> None:
    """Sometimes the power of the board goes too: no command there ends what it does."""
    board = fleet.board("gate")
    board.has(old)
    live, wanted = old, new
    for step in ("copy", "look", "golden frames", "switch", "restart", "health"):
        assert fleet.killed_at(f"gate: {step}", wanted) == -signal.SIGKILL
        if step in ("copy", "switch", "health"):
            board.cut()
        # The service goes on with one of the two, and a link that leads nowhere is there at no moment.
        assert sha256(board.link) in (sha256(live), sha256(wanted)), step
        assert board.running() in (sha256(live), sha256(wanted)), step
        done = fleet.deploy(wanted)
        assert done.returncode == 0, (step, done.stdout, done.stderr)
        require_whole(board, wanted, live)
        live, wanted = wanted, live


def test_every_state_that_a_kill_leaves_is_taken_up(fleet: Fleet, old: Path, new: Path) -> None:
    """The disk of the board as it is between each two commands of ``switch``, ``settle`` and ``back``."""
    board = fleet.board("gate")
    board.has(old, new)
    pending = board.root / "pending"
    was_settled = "previous.edgeseg", f"models/{sha256(old)}.edgeseg"
    # The link was not restarted with: the service runs old, the link leads to new.
    point(board, old)
    board.restart()
    assert board.running() == sha256(old)
    point(board, new)
    pending.write_text(f"{sha256(old)} {sha256(new)} deploy\n")
    assert fleet.deploy(new).returncode == 0
    assert board.calls() == ["restart edgeseg"], "what was proven before the switch is not done again"
    require_whole(board, new, old)
    # It was settled all but the note.
    pending.write_text(f"{sha256(old)} {sha256(new)} deploy\n")
    (board.root / "pending.new").write_text("half")
    (board.root / "current.edgeseg.new").symlink_to("nowhere")
    assert fleet.deploy(new).returncode == 0
    assert all((board.root / name).exists() for name in was_settled) and not pending.exists()
    # The link went back, and the service still runs new.
    point(board, old)
    pending.write_text(f"{sha256(old)} {sha256(new)} deploy\n")
    assert fleet.deploy(old).returncode == 0
    assert board.running() == sha256(old) and not pending.exists()
    # Noted, and not switched.
    pending.write_text(f"{sha256(old)} {sha256(new)} deploy\n")
    (board.root / f"models/{sha256(new)}.part.1").write_bytes(b"half")
    (board.root / f"models/{sha256(new)}.edgeseg").write_bytes(b"damaged")
    assert fleet.deploy(new).returncode == 0
    (board.root / "current.edgeseg.new").unlink(missing_ok=True)
    require_whole(board, new, old)
    # An unfinished deployment of new is what people want away from.
    pending.write_text(f"{sha256(old)} {sha256(new)} deploy\n")
    assert fleet.deploy(new, "--rollback").returncode == 0
    assert board.running() == sha256(old) and not pending.exists()


# The board's own script, without a connection


def step(folder: Path, *words: str, sent: bytes = b"") -> subprocess.CompletedProcess[str]:
    """A step of the script, as it runs on a board."""
    done = subprocess.run(["sh", str(SCRIPT), *words], input=sent, capture_output=True, timeout=60, cwd=folder)
    return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("sent", [b"", b"other", b"whole, and more"])
def test_what_did_not_arrive_whole_is_no_model(sent: bytes, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    done = step(tmp_path, "copy", str(tmp_path), hashlib.sha256(b"whole").hexdigest(), "token", sent=sent)
    assert done.returncode == 1 and "what arrived is not what was sent" in done.stderr
    assert list((tmp_path / "models").iterdir()) == []


def test_a_model_that_somebody_else_switched_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    theirs, link = tmp_path / "theirs", tmp_path / "current.edgeseg"
    theirs.write_bytes(b"theirs")
    link.symlink_to(theirs)
    done = step(tmp_path, "switch", str(tmp_path), str(link), "1" * 64, "2" * 64, "deploy")
    assert done.returncode == 1 and "switched by somebody else meanwhile" in done.stderr
    assert link.read_bytes() == b"theirs" and not (tmp_path / "pending").exists()


def test_two_models_and_what_is_not_ours_are_kept(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    first, second, third = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2", b"3"))
    for name, text in ((first, b"1"), (second, b"2"), (third, b"3"), ("mine", b"4"), ("a" * 63, b"5")):
        (models / f"{name}.edgeseg").write_bytes(text)
    (tmp_path / "current.edgeseg").symlink_to(models / f"{third}.edgeseg")
    (tmp_path / "pending").write_text(f"{second} {third} deploy\n")
    link = str(tmp_path / "current.edgeseg")
    assert "somebody else" in step(tmp_path, "settle", str(tmp_path), link, first).stderr
    assert step(tmp_path, "settle", str(tmp_path), link, third).returncode == 0
    assert {path.stem for path in models.iterdir()} == {second, third, "mine", "a" * 63}
    assert (tmp_path / "previous.edgeseg").read_bytes() == b"2" and not (tmp_path / "pending").exists()


def test_a_folder_of_models_is_relative_to_the_home(tmp_path: Path) -> None:
    done = step(tmp_path, "look", "a b", "", "1" * 64, *ME)
    assert done.stdout.splitlines() == [
        f"root {tmp_path}/a b",
        f"link {tmp_path}/a b/current.edgeseg",
        "live none",
        "held none",
    ]
    (tmp_path / "file").touch()
    done = step(tmp_path, "look", "file/models", "", "1" * 64, *ME)
    assert done.returncode == 1 and "make it once: sudo install -d -o" in done.stderr
    done = step(tmp_path, "look", "a b", str(tmp_path), "1" * 64, *ME)
    assert done.returncode == 1 and "is a folder there" in done.stderr
