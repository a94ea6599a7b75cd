"""Send records to another machine, in the background."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import Any, Callable

from edgeseg.errors import SinkError
from edgeseg.runtime.alarms.actions.base import MOST_WAITING, AlarmAction, Tell
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.frame import Segmentation

__all__ = ["RemoteAction"]

_RETRY_S = (0.5, 60.0)
_GOODBYE_S, _LEAVE_S = 3.0, 0.2


class RemoteAction(AlarmAction):
    """Sender of records in the background, in their order; it tries ever more slowly until the other end takes them.

    Up to 256 wait; then the oldest is lost. ``close`` gives what waits 3 seconds, and leaves behind an other end that
    takes a record but does not answer.

    Args:
        description: text for people, without credentials.
        send: sends one record, and waits until it is taken. Raises SinkError, without credentials.
        close: ends the connection.
        tell: see ``ActionContext``.
    """

    def __init__(
        self, description: str, send: Callable[[bytes], None], close: Callable[[Deadline], None], tell: Tell
    ) -> None:
        super().__init__()
        self.description = description
        self._send, self._close, self._tell = send, close, tell
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closing = self._closed = False
        self._thread = threading.Thread(target=self._work, name="edgeseg-alarm", daemon=True)
        self._thread.start()

    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        """Take a record; it is sent in the background. Raises SinkError: the oldest that waits is lost."""
        with self._changed:
            self._waiting.append(json.dumps(record).encode())
            full = len(self._waiting) > MOST_WAITING
            if full:
                self._waiting.popleft()
                self.lost += 1
            self._changed.notify_all()
        if full:
            raise SinkError(f"{MOST_WAITING} records wait; the oldest is lost")

    def finish(self) -> None:
        """Begin to end: what waits is still sent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, deadline: Deadline) -> None:
        """Give what waits its time. Raises SinkError: records could not be sent."""
        self.finish()
        with self._changed:
            first, self._closed = not self._closed, True
            if first:
                deadline.wait_for(self._changed, lambda: not self._waiting, _GOODBYE_S)
            left = len(self._waiting)
            self.lost += left
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(deadline.left(_LEAVE_S))
        if first:
            self._close(deadline)
        if left:
            raise SinkError(f"{left} records could not be sent")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict of the description and the counters."""
        return {**super().to_json(), "waiting": len(self._waiting)}

    def _work(self) -> None:
        pause_s = _RETRY_S[0]
        told = ""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                record = self._waiting[0]
            try:
                self._send(record)
            except SinkError as error:
                if str(error) != told:
                    told = str(error)
                    self._tell("error", "alarm", f"{told}; it is tried again")
                with self._changed:
                    self._changed.wait_for(lambda: self._closing and not self._waiting, pause_s)
                pause_s = min(2 * pause_s, _RETRY_S[1])
                continue
            pause_s, told = _RETRY_S[0], ""
            with self._changed:
                if self._waiting and self._waiting[0] is record:  # else it was given up and counted meanwhile
                    self._waiting.popleft()
                    self.done += 1
                self._changed.notify_all()
