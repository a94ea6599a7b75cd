"""Telling systemd how a service is: sd_notify(3) without its library."""

from __future__ import annotations

import socket
import time
from typing import Callable

__all__ = ["Notifier"]

_STATUS_EVERY_S = 5.0


class Notifier:
    """Sends ``READY=1``, ``WATCHDOG=1`` and ``STATUS=`` to the service manager.

    A message that cannot be delivered is not an error of the run: it is dropped, and ``failed`` counts it.

    Args:
        address: the value of ``NOTIFY_SOCKET``: a path, or ``@NAME`` for an abstract socket; None or empty where
            nobody listens: then nothing is sent.
        watchdog_s: the manager's limit in seconds (``WATCHDOG_USEC`` / 1e6); None where there is none.
        clock: monotonic seconds; injected in tests.

    Attributes:
        failed: messages that were not delivered.
    """

    def __init__(
        self, address: str | None, watchdog_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._every_s = watchdog_s / 2 if watchdog_s else None
        self._clock = clock
        self._due = self._status_due = float("-inf")
        self._said = ""
        self.failed = 0

    def ready(self, status: str = "") -> None:
        """Tell systemd that the service does its work now: frames flow."""
        self._send("READY=1", *self._status(status))

    def status(self, text: Callable[[], str]) -> None:
        """Send a line without credentials for ``systemctl status`` if it is new; asked for every 5 s at most."""
        if self._address and self._clock() >= self._status_due:
            self._status_due = self._clock() + _STATUS_EVERY_S
            line = text()
            if line != self._said:
                self._send(*self._status(line))

    def alive(self) -> None:
        """Call on real progress: at most every half watchdog interval it is passed on."""
        if self._every_s is not None and self._clock() >= self._due:
            self._due = self._clock() + self._every_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell systemd that the service ends in good order."""
        self._send("STOPPING=1")

    def _status(self, text: str) -> list[str]:
        self._said = text
        return [f"STATUS={' '.join(text.split())}"] if text else []

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A manager whose queue is full must not hold up the frames.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            self.failed += 1
