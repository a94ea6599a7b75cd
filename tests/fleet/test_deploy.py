"""``edgeseg deploy`` to real sshd processes on loopback."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgeseg.bundle import read_bundle, sign_bundle
from tests.fleet.rig import Fleet, free_port, require_whole, sha256


def rows_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """What ``--json`` says of each board."""
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return {row["host"]: row for row in json.loads(done.stdout)["hosts"]}


def test_three_boards_of_which_one_is_healthy(fleet: Fleet, old: Path, new: Path) -> None:
    """The second runs a graph that fails its golden frames, nobody listens where the third is."""
    healthy, wrong = fleet.board("gate"), fleet.board("yard")
    healthy.has(old)
    wrong.has(old)
    with fleet.inventory.open("a") as file:
        file.write(f'[hosts.far]\naddress = "ssh://nobody@127.0.0.1:{free_port()}"\n')
    fleet.inventory.write_text(fleet.inventory.read_text().replace(wrong.table(), wrong.table(graph="int8-cpu")))
    done = fleet.deploy(new, "--json")
    rows = rows_of(done)
    assert done.returncode == 1
    assert [row["result"] for row in rows.values()] == ["live", "rolled back", "unreachable"]
    assert [rows["gate"][key] for key in ("golden", "before", "after")] == [1.0, sha256(old), sha256(new)]
    assert rows["yard"]["step"] == "golden frames" and rows["yard"]["after"] == sha256(old)
    assert "int8-cpu gives" in rows["yard"]["message"] and "the limit is" in rows["yard"]["message"]
    assert "Connection refused" in rows["far"]["message"] and rows["far"]["after"] is None
    said = "edgeseg: 2 of 3 boards are not as asked: yard (rolled back), far (unreachable)"
    assert done.stderr.splitlines()[-1].startswith(said)
    require_whole(healthy, new, old)
    require_whole(wrong, old)
    assert wrong.calls() == ["verify"], "its service was not touched"
    assert healthy.calls() == ["verify", "restart edgeseg"]
    again = fleet.deploy(new)
    assert again.returncode == 1 and healthy.calls() == [], "a second run does nothing where the model is live"
    for words in ("gate", "already live"), ("yard", "rolled back"), ("far", "unreachable"):
        assert any(all(word in line for word in words) for line in again.stdout.splitlines() if "│" in line), (
            again.stdout
        )


def test_a_model_with_which_the_service_is_not_well_is_taken_back(fleet: Fleet, old: Path, new: Path) -> None:
    board, other = fleet.board("gate"), fleet.board("yard")
    board.has(old)
    other.has(old)
    (board.unit / "sick").write_text(sha256(new))
    done = fleet.deploy(new, "--json", "--patience", 1)
    row = rows_of(done)["gate"]
    assert done.returncode == 1 and (row["result"], row["step"]) == ("rolled back", "health"), row
    assert "not well for long enough" in row["message"] and "503" in row["message"]
    assert row["after"] == sha256(old) and board.running() == sha256(old)
    assert not (board.root / "pending").exists()
    assert rows_of(done)["yard"]["result"] == "not tried" and other.calls() == [], "it waits for the first"
    (board.unit / "sick").unlink()
    assert fleet.deploy(new).returncode == 0
    require_whole(board, new, old)
    require_whole(other, new, old)


def test_a_service_that_cannot_be_restarted_is_said_and_taken_up_later(fleet: Fleet, old: Path, new: Path) -> None:
    board = fleet.board("gate")
    board.has(old)
    (board.unit / "broken").touch()
    done = fleet.deploy(new, "--json")
    row = rows_of(done)["gate"]
    assert (done.returncode, row["result"], row["step"]) == (1, "failed", "restart")
    assert row["message"].count("Job for edgeseg.service failed.") == 2 and "could not be rolled back" in row["message"]
    assert sha256(board.link) == sha256(old) and row["after"] is None
    (board.unit / "broken").unlink()
    assert fleet.deploy(new).returncode == 0
    require_whole(board, new, old)


def test_a_slower_model_is_refused(fleet: Fleet, old: Path, new: Path) -> None:
    board = fleet.board("gate")
    board.has(old)
    row = rows_of(fleet.deploy(new, "--bench-seconds", 0.1, "--max-slowdown", 0.001, "--json"))["gate"]
    assert (row["result"], row["step"]) == ("rolled back", "bench")
    assert row["ms"] > 0 and row["ms_before"] > 0
    assert "times the running model's" in row["message"]
    require_whole(board, old)


def test_back_to_the_former_model(fleet: Fleet, old: Path, new: Path) -> None:
    board = fleet.board("gate")
    board.has(old)
    row = rows_of(fleet.deploy(old, "--rollback", "--json"))["gate"]
    assert row["result"] == "failed" and "no former model" in row["message"] and board.running() == sha256(old)
    assert fleet.deploy(new).returncode == 0 and board.calls()
    row = rows_of(fleet.deploy(new, "--rollback", "--json"))["gate"]
    assert (row["result"], row["before"], row["after"]) == ("gone back", sha256(new), sha256(old))
    require_whole(board, old, new)
    assert board.calls() == ["restart edgeseg"]
    assert rows_of(fleet.deploy(new, "--rollback", "--json"))["gate"]["result"] == "not live" and board.calls() == []
    # Killed between the link and the restart.
    (board.root / "pending").write_text(f"{sha256(new)} {sha256(old)} back\n")
    assert rows_of(fleet.deploy(new, "--rollback", "--json"))["gate"]["result"] == "gone back"
    assert board.calls() == ["restart edgeseg"]
    require_whole(board, old, new)


def test_a_file_where_the_link_belongs_becomes_the_former_model(fleet: Fleet, old: Path, new: Path) -> None:
    board = fleet.board("gate")
    board.root.mkdir()
    board.link.write_bytes(old.read_bytes())
    assert fleet.deploy(new).returncode == 0
    require_whole(board, new, old)


def test_a_service_that_runs_another_file_is_refused(fleet: Fleet, old: Path) -> None:
    board = fleet.board("gate")
    (board.unit / "edgeseg.toml").write_text("model = '/somewhere/else.edgeseg'\n")
    row = rows_of(fleet.deploy(old, "--json"))["gate"]
    assert row["result"] == "failed" and f"does not name {board.link}" in row["message"] and "--link" in row["message"]
    assert board.calls() == []


def test_a_first_model_with_which_the_service_is_not_well_goes(fleet: Fleet, old: Path) -> None:
    board = fleet.board("gate")
    (board.unit / "sick").write_text(sha256(old))
    row = rows_of(fleet.deploy(old, "--json", "--patience", 0.5))["gate"]
    assert (row["result"], row["step"], row["before"], row["after"]) == ("rolled back", "health", None, None), row
    assert not board.link.exists() and not (board.root / "pending").exists()
    assert board.calls() == ["verify", "restart edgeseg", "stop edgeseg"]


def test_a_board_whose_disk_is_full(fleet: Fleet, old: Path, new: Path) -> None:
    board = fleet.board("gate")
    board.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={old.stat().st_size * 3 // 2}", "none", str(board.root)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be made here: only root mounts one")
    try:
        board.has(old)
        row = rows_of(fleet.deploy(new, "--json"))["gate"]
        assert (row["result"], row["step"]) == ("rolled back", "copy") and "No space left" in row["message"]
        require_whole(board, old)
    finally:
        board.stop()
        subprocess.run(["umount", str(board.root)], check=True)


def test_the_board_checks_the_signature_itself(fleet: Fleet, old: Path) -> None:
    keys = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives import serialization as forms

    board = fleet.board("gate")
    mine, other = keys.Ed25519PrivateKey.generate(), keys.Ed25519PrivateKey.generate()
    for name, key in (("mine", mine), ("other", other)):
        pem = key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
        (fleet.folder / f"{name}.pem").write_bytes(pem)
    demand = ("--require-signature", fleet.folder / "mine.pem")
    done = fleet.deploy(old, *demand)
    assert done.returncode == 1 and "is not signed" in done.stderr and board.calls() == [], "no board was touched"
    sign_bundle(old, mine, old)
    row = rows_of(fleet.deploy(old, *demand, "--board-keys", fleet.folder / "other.pem", "--json"))["gate"]
    assert (row["result"], row["step"]) == ("rolled back", "golden frames")
    assert "by no key of" in row["message"] and "other.pem" in row["message"]
    assert not board.link.exists() and board.calls() == ["verify"]
    done = fleet.deploy(old, *demand, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["signed_by"] == read_bundle(old).signatures[0].fingerprint
    assert len(list((board.root / "keys").iterdir())) == 1 and board.running() == sha256(old)


def test_what_ssh_refuses_is_said_in_its_words(fleet: Fleet, old: Path) -> None:
    board = fleet.board("gate")
    known = fleet.folder / "known"
    key = (fleet.folder / "key.pub").read_text().split()[:2]
    known.write_text(f"[127.0.0.1]:{board.port} {' '.join(key)}\n")
    row = rows_of(fleet.deploy(old, "--json"))["gate"]
    assert row["result"] == "unreachable" and row["message"].startswith("Host key verification failed.")
    assert "has changed" in row["message"] and "\n" not in row["message"]
    known.unlink()
    fleet.config.write_text(fleet.config.read_text().replace("accept-new", "yes"))
    row = rows_of(fleet.deploy(old, "--json"))["gate"]
    assert row["result"] == "unreachable" and "Connect once with ssh" in row["message"]
    fleet.config.write_text(fleet.config.read_text().replace("ing yes", "ing no").replace("/key\n", "/host_key\n"))
    row = rows_of(fleet.deploy(old, "--json"))["gate"]
    assert row["result"] == "unreachable" and "Permission denied (publickey" in row["message"]
    assert board.calls() == []
    (fleet.folder / "bin").mkdir()
    done = fleet.deploy(old, "--json", path=str(fleet.folder / "bin"))
    assert "ssh cannot be started here" in rows_of(done)["gate"]["message"]


def test_a_board_without_edgeseg_is_said(fleet: Fleet, old: Path) -> None:
    fleet.board("gate", command="/nowhere/edgeseg")
    row = rows_of(fleet.deploy(old, "--json"))["gate"]
    assert row["result"] == "failed" and "/nowhere/edgeseg" in row["message"] and "`" not in row["message"]
    assert "say where it is with --command" in row["message"]
