"""Commands over a real ssh: what is quoted, what is lost, what takes too long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edgeseg.errors import DeployError
from edgeseg.fleet.remote import Remote, Unreachable
from tests.fleet.rig import Fleet, descendants, until

ODD = ("a b", "it's", '"', "$(id)", "`id`", "*", "-n", "ä", "", "a\nb", "\\", "~", "a;b", "!x", "#")


def test_words_arrive_as_they_are(fleet: Fleet) -> None:
    board = fleet.board("gate")
    remote = Remote(board.address, fleet.config)
    assert remote.run(["printf", "%s|", *ODD]) == "".join(f"{word}|" for word in ODD)
    assert remote.run(["sh", "-c", "echo a; exit 3"], codes=(0, 3)) == "a\n"
    with pytest.raises(DeployError, match="^last$"):
        remote.run(["sh", "-c", "echo first >&2; echo 'edgeseg: last' >&2; exit 1"])
    with pytest.raises(DeployError, match="^exit status 4$"):
        remote.run(["sh", "-c", "exit 4"])


def test_a_file_arrives_as_it_is(fleet: Fleet, tmp_path: Path) -> None:
    board = fleet.board("gate")
    (tmp_path / "sent").write_bytes(bytes(range(256)) * 5000)
    Remote(board.address, fleet.config).run(["sh", "-c", f"cat > '{board.folder}/got'"], send=tmp_path / "sent")
    assert (board.folder / "got").read_bytes() == (tmp_path / "sent").read_bytes()


def test_what_takes_too_long_ends(fleet: Fleet) -> None:
    board = fleet.board("gate")
    began = time.monotonic()
    with pytest.raises(DeployError, match=r"^no end after 0\.5 s$"):
        Remote(board.address, fleet.config, timeout_s=0.5).run(["sleep", "600"])
    assert time.monotonic() - began < 300


@pytest.mark.parametrize("how", ["the board is gone", "it was stopped"])
def test_a_command_whose_connection_ends(how: str, fleet: Fleet) -> None:
    board = fleet.board("gate")
    remote, said = Remote(board.address, fleet.config), []

    def work() -> None:
        try:
            remote.run(["sleep", "600"])
        except DeployError as error:
            said.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: any(_name(one) == "sleep" for one in descendants(board.pid)), "the command does not run there")
    if how == "it was stopped":
        remote.stop()
    else:
        board.cut()
    thread.join(300)
    assert not thread.is_alive()
    if how == "it was stopped":
        assert str(said[0]) == "interrupted"
        with pytest.raises(DeployError, match="^interrupted$"):
            remote.run(["true"])
    else:
        assert isinstance(said[0], Unreachable) and str(said[0])


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""
