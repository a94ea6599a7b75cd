"""Act when an alarm goes on or off: log, write lines, save a snapshot, publish or post a record."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import threading
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import Any, Callable
from urllib.parse import unquote, urlsplit

from edgeseg.credentials import address_parts
from edgeseg.errors import SinkError, UsageError
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.jsonl import is_record
from edgeseg.runtime.sinks.lines import LineFile
from edgeseg.runtime.sinks.mqtt import MqttPublisher
from edgeseg.runtime.sinks.own import keep_picture

__all__ = ["AlarmAction", "action_from_text"]

Tell = Callable[[str, str, str], None]

_MOST_WAITING = 256
_NO_WEBHOOK = (
    "a webhook is https://[USER:PASSWORD@]HOST[:PORT]/PATH; write / ? # @ in USER and PASSWORD as %2F %3F %23 %40"
)
_TIMEOUT_S = 5.0
_RETRY_S = (0.5, 60.0)
_GOODBYE_S, _LEAVE_S = 3.0, 0.2


class AlarmAction(ABC):
    """One thing that is done with every alarm record.

    Attributes:
        description: text for people, without credentials.
        done: records that were dealt with.
        lost: records that never will be.
    """

    description: str

    def __init__(self) -> None:
        self.done = self.lost = 0

    @abstractmethod
    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        """Take a record without waiting for a network. ``result`` is None when the source has ended.

        Raises:
            SinkError: the record could not be taken.
        """

    def retry(self) -> None:  # noqa: B027 - most have nothing to catch up with
        """Do what failed before; called with every frame.

        Raises:
            SinkError: it failed again.
        """

    def finish(self) -> None:  # noqa: B027
        """Begin to end and return at once; ``close`` follows."""

    def close(self, deadline: Deadline) -> None:  # noqa: B027
        """Finish before the deadline. May be called twice.

        Raises:
            SinkError: records are lost by closing.
        """

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict of the description and the counters."""
        return {"description": self.description, "done": self.done, "lost": self.lost}


def action_from_text(text: str, painter: Painter, tell: Tell, *, overwrite: bool = False) -> AlarmAction:
    """Build the action that a text names.

    Args:
        text: ``log``, ``jsonl:FILE``, ``snapshot:FOLDER``, ``mqtt://`` or ``mqtts://`` (see ``MqttPublisher``), or
            ``http://`` or ``https://`` with what the other end needs.
        painter: draws snapshots.
        tell: ``RunState.tell``; also reports what goes wrong in the background.
        overwrite: existing files are replaced; else edgeseg only goes on with files that it wrote.

    Raises:
        UsageError: there is no such action.
        SinkError: a file, folder or broker cannot be used.
    """
    kind, _, rest = text.partition(":")
    if text == "log":
        return _Log(tell)
    if kind == "jsonl" and rest:
        return _Lines(Path(rest), overwrite)
    if kind == "snapshot" and rest:
        return _Snapshot(Path(rest), painter, overwrite)
    if kind in ("mqtt", "mqtts"):
        publisher = MqttPublisher(text)
        return _Remote(publisher.description, publisher.publish, publisher.close, tell)
    if kind in ("http", "https"):
        webhook = _Webhook(text)
        return _Remote(webhook.description, webhook.post, lambda deadline: None, tell)
    shown = f"{kind}:..." if rest else repr(text[:40])
    raise UsageError(
        f"no alarm action {shown}; there are log, jsonl:FILE, snapshot:FOLDER, mqtt://HOST/TOPIC, https://..."
    )


class _Log(AlarmAction):
    description = "log"

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        values = ", ".join(f"{name} = {_percent(value)}" for name, value in record["values"].items())
        source = f" source {record['source']}" if record["source"] else ""
        state = "on" if record["on"] else "off"
        self._tell(
            "warning",
            "alarm",
            f"{record['alarm']}: {state} at{source} frame {record['frame']} ({values or record['why']})",
        )
        self.done += 1


class _Lines(AlarmAction):
    """Writer of a line per record; while the file cannot be written, up to 256 wait."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        super().__init__()
        self._file = LineFile(path, b"", b"{", is_record, overwrite=overwrite)
        self._waiting: deque[bytes] = deque()
        self.description = f"JSON lines in {path}"

    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        if len(self._waiting) == _MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(json.dumps(record).encode() + b"\n")
        self._flush()

    def retry(self) -> None:
        try:
            self._flush()
        except SinkError:
            return  # told when the record came

    def close(self, deadline: Deadline) -> None:
        try:
            if self._waiting:
                self._flush()
        finally:
            self.lost += len(self._waiting)
            self._waiting.clear()
            self._file.close()

    def _flush(self) -> None:
        while self._waiting:
            self._file.append(self._waiting[0])
            self._waiting.popleft()
            self.done += 1


class _Snapshot(AlarmAction):
    """Writer of ``SOURCE-FRAME-ALARM-on.png`` and ``-off.png``."""

    def __init__(self, folder: Path, painter: Painter, overwrite: bool) -> None:
        super().__init__()
        self._folder, self._painter, self._overwrite = folder, painter, overwrite
        self.description = f"snapshots in {folder}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{folder} cannot be created: {error.strerror}") from error

    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        if result is None:
            return
        state = "on" if record["on"] else "off"
        parts = (
            record["source"],
            f"{record['frame']:06d}",
            re.sub(r"\W+", "-", record["alarm"]).strip("-")[:60],
            state,
        )
        name = "-".join(re.sub(r"[^\w.-]+", "_", part) for part in parts if part)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            keep_picture(self._folder / f"{name}.png", self._painter.picture(result), overwrite=self._overwrite)
        except SinkError:
            self.lost += 1
            raise
        except OSError as error:
            self.lost += 1
            raise SinkError(f"{self._folder} cannot be written: {error.strerror}; free space") from error
        self.done += 1


class _Remote(AlarmAction):
    """Sender of records in the background, in their order; it tries ever more slowly until the other end takes them.

    Up to 256 wait; then the oldest is lost. ``close`` gives what waits 3 seconds, and leaves behind an other end that
    takes a record but does not answer.
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
        with self._changed:
            self._waiting.append(json.dumps(record).encode())
            full = len(self._waiting) > _MOST_WAITING
            if full:
                self._waiting.popleft()
                self.lost += 1
            self._changed.notify_all()
        if full:
            raise SinkError(f"{_MOST_WAITING} records wait; the oldest is lost")

    def finish(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, deadline: Deadline) -> None:
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


class _Webhook:
    """Poster of JSON."""

    def __init__(self, url: str) -> None:
        try:
            parts = address_parts(url)
        except UsageError:  # it would show the end of the path
            raise UsageError(_NO_WEBHOOK) from None
        host, port = parts.hostname, parts.port
        if not host:
            raise UsageError(_NO_WEBHOOK)
        # User, path and query may hold a token, so that only the host is ever shown; nor what may be a cut password.
        is_port = port is not None and ("@" in parts.netloc or "@" not in url)
        self.description = f"webhook {parts.scheme}://{host}{f':{port}' if is_port else ''}"
        self._url, self._headers = url, {"Content-Type": "application/json", "User-Agent": "edgeseg"}
        if parts.username is not None:
            self._url, self._headers["Authorization"] = _with_basic_authorization(url)
        # Not urlopen: it keeps one opener per process and so, since Python 3.12, the certificates of the first call.
        handler = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        self._opener = urllib.request.build_opener(handler, _NoRedirects)

    def post(self, record: bytes) -> None:
        request = urllib.request.Request(self._url, record, self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            moved = (
                "; records go to no other place: write the address that takes them" if error.code // 100 == 3 else ""
            )
            raise SinkError(f"{self.description} answers {error.code}{moved}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            text = getattr(reason, "strerror", None) or type(reason).__name__
            raise SinkError(f"{self.description} cannot be reached: {text}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Handler that makes a redirect an error: followed, a POST becomes a GET, and the account goes to strangers."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _with_basic_authorization(url: str) -> tuple[str, str]:
    """Split a URL into one without user and password, and the header that carries them."""
    parts = urlsplit(url)
    account = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, "Basic " + base64.b64encode(account.encode()).decode()


def _percent(share: float | None) -> str:
    return "infinite" if share is None else f"{share:.1%}"
