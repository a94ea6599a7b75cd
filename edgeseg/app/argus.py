"""NVIDIA's camera daemon, restarted when a CSI camera blames it and the user allowed that."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Callable

from edgeseg.errors import first_line

__all__ = ["ArgusDaemon"]

_COMMAND = ["sudo", "-n", "systemctl", "restart", "nvargus-daemon"]
_AT_MOST_EVERY_S = 20.0


class ArgusDaemon:
    """The one daemon of all CSI cameras of a machine.

    A restart takes the other cameras down too, and each of them would ask for the next one: so many requests in a short
    time are one restart.

    Args:
        tell: takes a line for people at a time.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._restarted_at: float | None = None

    def restart(self) -> bool:
        """Restart it through sudo, without a password; whether that was done, now or a moment ago."""
        with self._lock:
            if self._restarted_at is not None and time.monotonic() - self._restarted_at < _AT_MOST_EVERY_S:
                return True
            self._tell("restarting nvargus-daemon, as `argus_restart` allows")
            failure = _failure_of(_COMMAND)
            if failure:
                self._tell(f"it was not restarted: {failure}; 'edgeseg service install --argus-restart' allows it")
                return False
            self._restarted_at = time.monotonic()
            return True


def _failure_of(command: list[str]) -> str:
    """Why a command failed; empty when it did not."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return first_line(error)
    return "" if done.returncode == 0 else done.stderr.strip()[-200:] or f"exit status {done.returncode}"
