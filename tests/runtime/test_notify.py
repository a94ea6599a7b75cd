from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Iterator

import pytest

from edgeseg.runtime.monitoring.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """(address as in NOTIFY_SOCKET, the socket that a service manager would read)."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@edgeseg-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        receiver.setblocking(False)
        yield address, receiver


def test_what_a_manager_hears(manager: tuple[str, socket.socket]) -> None:
    address, receiver = manager
    now = [100.0]
    notifier = Notifier(address, 15.0, clock=lambda: now[0])
    notifier.ready("30 fps\nfrom camera 0")
    assert receiver.recv(1000) == b"READY=1\nSTATUS=30 fps from camera 0"
    for now[0], line in ((100.0, "29 fps"), (104.9, "28 fps"), (105.0, "29 fps"), (110.0, "27 fps")):
        notifier.status(partial(str, line))
    assert receiver.recv(1000) == b"STATUS=29 fps"
    assert receiver.recv(1000) == b"STATUS=27 fps"
    heard = []
    for now[0] in (100.0, 101.0, 107.4, 107.5, 107.6, 115.0):
        notifier.alive()
        try:
            heard.append((now[0], receiver.recv(1000)))
        except BlockingIOError:
            continue
    assert heard == [(100.0, b"WATCHDOG=1"), (107.5, b"WATCHDOG=1"), (115.0, b"WATCHDOG=1")]
    notifier.stopping()
    assert receiver.recv(1000) == b"STOPPING=1"
    with pytest.raises(BlockingIOError):
        receiver.recv(1000)
    assert notifier.failed == 0


def test_a_full_or_missing_manager_holds_nothing_up(manager: tuple[str, socket.socket], tmp_path: Path) -> None:
    notifier = Notifier(manager[0])
    for number in range(5000):
        notifier.ready(str(number))
    assert 0 < notifier.failed < 5000
    gone = Notifier(str(tmp_path / "gone"), 1.0)
    gone.ready()
    gone.alive()
    assert gone.failed == 2


def test_without_a_manager_nothing_is_sent() -> None:
    for address in (None, ""):
        notifier = Notifier(address, None)
        notifier.ready("x")
        notifier.alive()
        notifier.stopping()
        assert notifier.failed == 0


def test_systemd_itself_takes_it() -> None:
    if not (shutil.which("systemd-run") and Path("/run/systemd/system").is_dir()):
        pytest.skip("systemd does not run here")
    code = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})\n"
        "from edgeseg.runtime.monitoring.systemd import Notifier\n"
        "n = Notifier(os.environ['NOTIFY_SOCKET']); n.ready('up'); n.stopping(); assert not n.failed"
    )
    done = subprocess.run(
        ["systemd-run", "--wait", "--quiet", "--property=Type=notify", sys.executable, "-c", code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
