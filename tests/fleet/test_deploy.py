"""``edgeseg deploy`` to real sshd processes on loopback."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fleet.conftest import sha256
from tests.fleet.rig import Fleet, free_port


def test_three_boards_of_which_one_is_healthy(fleet: Fleet, old: Path, new: Path) -> None:
    """The second runs a graph that fails its golden frames, nobody listens where the third is."""
    healthy, wrong = fleet.board("gate"), fleet.board("yard")
    assert fleet.deploy(old).returncode == 0
    before = wrong.files()
    with fleet.inventory.open("a") as file:
        file.write(f'[hosts.far]\naddress = "ssh://nobody@127.0.0.1:{free_port()}"\n')
    fleet.inventory.write_text(fleet.inventory.read_text().replace(wrong.table(), wrong.table(graph="int8-cpu")))
    healthy.calls(), wrong.calls()
    done = fleet.deploy(new, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    rows = {row["host"]: row for row in document["hosts"]}
    assert [row["result"] for row in rows.values()] == ["live", "rolled back", "unreachable"]
    assert [rows["gate"][key] for key in ("golden", "before", "after")] == [1.0, sha256(old), sha256(new)]
    assert rows["yard"]["step"] == "golden frames" and rows["yard"]["after"] == sha256(old)
    assert "int8-cpu gives" in rows["yard"]["message"] and "the limit is" in rows["yard"]["message"]
    assert "Connection refused" in rows["far"]["message"] and rows["far"]["after"] is None
    said = "edgeseg: 2 of 3 boards are not as asked: yard (rolled back), far (unreachable)"
    assert done.stderr.splitlines()[-1].startswith(said)
    assert healthy.running() == sha256(new) and wrong.running() == sha256(old)
    assert wrong.files() == before and wrong.calls() == ["verify"], "nothing is left, and the service was not touched"
    assert healthy.calls() == ["verify", "restart edgeseg"]
    again = fleet.deploy(new)
    assert again.returncode == 1 and healthy.calls() == [], "a second run does nothing where the model is live"
    for words in ("gate", "already live"), ("yard", "rolled back"), ("far", "unreachable"):
        assert any(all(word in line for word in words) for line in again.stdout.splitlines() if "│" in line), (
            again.stdout
        )
