"""What an operation of the page is, and what its handler is given."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Iterator, Mapping, Protocol, Sequence, Union

from edgeseg.credentials import redacted
from edgeseg.errors import EdgesegError
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.loop.control import RunControl
from edgeseg.runtime.monitoring.prometheus import RunMetrics
from edgeseg.runtime.preview.bodies import Check, Refusal, checked, checked_body
from edgeseg.runtime.preview.pictures import Pictures
from edgeseg.runtime.preview.schemas import Schema
from edgeseg.runtime.preview.snapshots import Snapshots

__all__ = ["Alarms", "Call", "Drop", "Operation", "Page", "Reply", "Rois", "json_reply", "refusing"]

_KEPT_S = 0.2
Drop = Callable[[Any], None]
"""Ends a connection at once, named by the client's address in an ASGI scope."""


class Rois(Protocol):
    """Regions of interest by name, shared with the alarms; any thread."""

    def put(self, name: str, points: Sequence[tuple[float, float]]) -> None:
        """Add or replace a polygon of (x, y), 0-1. Raises UsageError or SinkError."""

    def remove(self, name: str) -> None:
        """Raises UsageError when there is none of that name."""

    def to_json(self) -> dict[str, Any]:
        """``{"rois": {NAME: [[x, y], ...]}}``."""


class Alarms(Protocol):
    """What goes off; any thread."""

    def active(self) -> Sequence[Mapping[str, Any]]:
        """Return the alarms that are on: each with at least ``alarm`` (its name) and ``source``."""


@dataclass(frozen=True)
class Call:
    """A request whose body and query were checked.

    Attributes:
        path: its parameters, decoded.
        query: the parameters that the operation has, as far as they are given.
        body: the fields of the JSON object; empty where the operation takes none.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """An answer."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_reply(value: Any, status: int = 200) -> Reply:
    """Make an answer of a JSON-serialisable value."""
    return Reply(json.dumps(value).encode(), status)


@dataclass(eq=False)
class Page:
    """A page of a run: what handlers work on.

    Attributes:
        control: the run.
        painter: its alpha and hidden classes are what the page sets.
        pictures: latest results.
        snapshots: where they go.
        metrics: for /metrics.
        drop: see ``Drop``.
        rois: None where the run has none: then their operations answer 404.
        alarms: None where the run has none.
    """

    control: RunControl
    painter: Painter
    pictures: Pictures
    snapshots: Snapshots
    metrics: RunMetrics
    drop: Drop
    rois: Rois | None = None
    alarms: Alarms | None = None
    _kept: tuple[float, dict[str, Any]] | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def kept_state(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what ``make`` returned a moment ago, or now: so many viewers cost as much as one."""
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > _KEPT_S:
                made = make()  # takes a while; it is kept from when it is there
                self._kept = time.monotonic(), made
            return self._kept[1]

    def changed(self) -> None:
        """Forget the kept state and wake those who watch. Called after every change."""
        with self._lock:
            self._kept = None
        self.pictures.wake()


Handler = Union[Callable[[Page, Call], Reply], Callable[[Page, Call], Awaitable[Any]]]
"""A function runs in a worker thread and may wait. A coroutine runs in the server's loop and may not: it returns a
``Reply``, or an ASGI application that answers."""


@dataclass(frozen=True)
class Operation:
    """A row of ``OPERATIONS``: routing, checks and the document at /openapi.json are made of it.

    Attributes:
        method: ``"GET"`` (which answers HEAD too), ``"POST"``, ``"PUT"`` or ``"DELETE"``.
        path: with parameters in braces; ``{name:path}`` takes slashes.
        handler: what is done; the document calls the operation by its name.
        summary: a line for people.
        answer: schema of what it returns; empty where that is no JSON.
        content_type: of what it returns.
        status: of the answer.
        refusals: statuses of handlers' own refusals. Those of checks and of the guard are known.
        also: status -> when it is returned with the same kind of answer.
        path_patterns: of each parameter in the path, for the document. Handlers say what is not there.
        query: name -> check of a parameter, which may be left out.
        body: name -> check of a field; None takes no body.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Schema = field(default_factory=dict)
    content_type: str = "application/json"
    status: int = 200
    refusals: tuple[int, ...] = ()
    also: Mapping[int, str] = field(default_factory=dict)
    path_patterns: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Check] = field(default_factory=dict)
    body: Mapping[str, Check] | None = None

    def call(self, path: Mapping[str, str], query: Mapping[str, str], body: Any) -> Call:
        """Check a request.

        Args:
            path: parameters, decoded.
            query: all parameters; those that the operation does not have are ignored.
            body: parsed JSON; not looked at where the operation takes none.

        Raises:
            Refusal: 400.
        """
        values = {name: checked(name, query[name], check) for name, check in self.query.items() if name in query}
        return Call(path, values, {} if self.body is None else checked_body(body, self.body))


@contextmanager
def refusing() -> Iterator[None]:
    """Turn the errors of a run into refusals: the request fits the document, but the run does not do it."""
    try:
        yield
    except EdgesegError as error:
        raise Refusal(409, redacted(str(error))) from error
