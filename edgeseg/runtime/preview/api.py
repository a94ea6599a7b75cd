"""What the page and other programs may ask of a run. Every function here runs in a worker thread and may wait."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping, Protocol, Sequence

import numpy as np

from edgeseg import __version__
from edgeseg.credentials import redacted
from edgeseg.errors import EdgesegError
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.loop.control import RunControl
from edgeseg.runtime.preview.bodies import (
    Refusal,
    boolean,
    distinct_texts,
    fields,
    number,
    polygon,
    text,
)
from edgeseg.runtime.preview.pictures import Pictures
from edgeseg.runtime.preview.snapshots import Snapshots
from edgeseg.runtime.sources.uri import PAGE_SOURCES, SOURCES

__all__ = ["MAX_POINTS", "MAX_ROIS", "NAME", "VIEWER", "Alarms", "Api", "Call", "Reply", "Rois", "health"]

MAX_ROIS, MAX_POINTS = 64, 1000
NAME = r"[A-Za-z0-9_-]{1,64}"
VIEWER = r"[0-9a-f]{16}"
_ADDABLE = ", ".join(f"{scheme}://" for scheme, kind in SOURCES.items() if kind.from_page)
_MOST_SOURCES, _MOST_NAMES = 64, 1000
_STATE_KEPT_S = 0.2
_RECENT = 15


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
    """A request.

    Attributes:
        path: its parameters, decoded.
        query: the last value of each name.
        body: parsed JSON; None where there is none.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Reply:
    """An answer."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status)


def health(control: RunControl) -> tuple[bool, dict[str, Any]]:
    """Tell whether every source streams and no sink fails, and the details. Removed and finished sources do not count,
    unless there is no other."""
    sources = {source.name: source.status for source in list(control.state.sources.values())}
    counted = [status for status in sources.values() if status != "ended"]
    sinks = [{"description": sink.description, "status": sink.status} for sink in list(control.state.sinks)]
    ok = bool(counted) and set(counted) == {"streaming"} and all(sink["status"] != "failing" for sink in sinks)
    return ok, {"ok": ok, "ended": control.state.ended, "sources": sources, "sinks": sinks}


class Api:
    """The handlers, one per operation of the document at /openapi.json.

    Args:
        control: the run.
        painter: its alpha and hidden classes are what the page sets.
        pictures: latest results.
        snapshots: where they go.
        rois: None where the run has none: then their operations answer 404.
        alarms: None where the run has none.
    """

    def __init__(
        self,
        control: RunControl,
        painter: Painter,
        pictures: Pictures,
        snapshots: Snapshots,
        rois: Rois | None,
        alarms: Alarms | None,
    ) -> None:
        self._control, self._painter, self._pictures, self._snapshots = control, painter, pictures, snapshots
        self._rois, self._alarms = rois, alarms
        self._kept: tuple[float, dict[str, Any]] = (0.0, {})
        self._lock = threading.Lock()

    def state(self, call: Call) -> Reply:
        """Everything that the page shows; with ``?viewer=`` also what that viewer's stream was sent."""
        viewer = call.query.get("viewer")
        if viewer is not None and not re.fullmatch(VIEWER, viewer):
            raise Refusal(400, "viewer is 16 hexadecimal digits")
        sent = self._pictures.sent_to(viewer) if viewer else None
        return _json({**self._shared_state(), "viewer": sent})

    def _shared_state(self) -> dict[str, Any]:
        """The part that is alike for everybody, kept for a moment so that many viewers cost as much as one."""
        with self._lock:
            made, kept = self._kept
            if time.monotonic() - made > _STATE_KEPT_S:
                kept = self._made_state()
                self._kept = time.monotonic(), kept
            return kept

    def _made_state(self) -> dict[str, Any]:
        state, spec, painter = self._control.state, self._control.spec, self._painter
        run = state.to_json()
        for source in run["sources"]:
            age = self._pictures.age_ms(source["name"])
            source["picture_age_ms"] = None if age is None else round(age, 1)
        recent = {stage: state.watch.latest_ms(stage, _RECENT) for stage in run["ms"]}
        return {
            "version": __version__,
            "at": round(time.time(), 3),
            "run": run,
            "recent_ms": {stage: round(float(np.median(laps)), 3) for stage, laps in recent.items() if laps.size},
            "alpha": painter.alpha,
            "classes": [
                {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour), "hidden": name in painter.hidden}
                for name, colour in zip(spec.classes, spec.palette)
            ],
            "alarms": None if self._alarms is None else [dict(alarm) for alarm in self._alarms.active()],
            "rois": None if self._rois is None else self._rois_json(),
        }

    def _changed(self) -> None:
        with self._lock:
            self._kept = (0.0, {})
        self._pictures.wake()

    def events(self, call: Call) -> Reply:
        """Return the latest events, oldest first."""
        return _json({"events": [event.to_json() for event in self._control.state.latest_events()]})

    def set_alpha(self, call: Call) -> Reply:
        """Share of the class colour in the picture."""
        self._painter.alpha = fields(call.body, {"alpha": number(0, 1)})["alpha"]
        self._changed()
        return _json({"alpha": self._painter.alpha})

    def set_classes(self, call: Call) -> Reply:
        """Set which classes are not painted."""
        hidden = fields(call.body, {"hidden": distinct_texts(254)})["hidden"]
        with _refusing():
            self._painter.hide(frozenset(hidden))
        self._changed()
        return _json({"hidden": sorted(self._painter.hidden)})

    def pause(self, call: Call) -> Reply:
        """Stop inferring, or go on."""
        paused = fields(call.body, {"paused": boolean})["paused"]
        self._control.pause(paused)
        self._changed()
        return _json({"paused": paused})

    def take_snapshot(self, call: Call) -> Reply:
        """Keep a source's latest frame and class ids on the machine that runs."""
        source = fields(call.body, {"source": text(200)})["source"]
        result = self._pictures.latest(source)
        if result is None:
            raise Refusal(404, "that source has no result yet, or there is no source of that name")
        with _refusing():
            frame, mask = self._snapshots.take(result)
        self._control.state.tell("info", "run", f"snapshot {self._snapshots.folder / frame}")
        links = {"frame": f"/api/snapshots/{frame}", "mask": f"/api/snapshots/{mask}"}
        return _json({**links, "folder": str(self._snapshots.folder), "index": result.frame.index}, 201)

    def snapshot(self, call: Call) -> Reply:
        """Return a file that take_snapshot wrote."""
        name = call.path["name"]
        with _refusing():
            data = self._snapshots.read(name)
        if data is None:
            raise Refusal(404, "no snapshot of that name was taken in this run")
        return Reply(
            data, content_type="image/png", headers=(("content-disposition", f'attachment; filename="{name}"'),)
        )

    def sources(self, call: Call) -> Reply:
        """Return all sources, those that ended included."""
        return _json({"sources": [source.to_json() for source in list(self._control.state.sources.values())]})

    def add_source(self, call: Call) -> Reply:
        """Open one more source."""
        asked = fields(call.body, {"uri": text(2048)}, {"name": text(64, NAME)})
        if not re.fullmatch(PAGE_SOURCES, asked["uri"]):
            raise Refusal(
                400,
                f"uri is a camera number, /dev/videoN, {_ADDABLE}; files and pipelines are added on the command line "
                "only; in an address a blank is %20, ! is %21, quotes are %22 and %27",
            )
        sources = list(self._control.state.sources.values())
        if sum(source.status != "ended" for source in sources) >= _MOST_SOURCES or len(sources) >= _MOST_NAMES:
            raise Refusal(409, f"a run takes up to {_MOST_SOURCES} sources at a time and {_MOST_NAMES} in all")
        with _refusing():
            name = self._control.add_source(asked["uri"], asked.get("name", ""))
        self._changed()
        return _json({"name": name}, 201)

    def remove_source(self, call: Call) -> Reply:
        """Close a source."""
        name = call.path["name"]
        source = self._control.state.sources.get(name)
        if source is None or source.status == "ended":
            raise Refusal(404, "there is no open source of that name")
        with _refusing():
            self._control.remove_source(name)
        self._pictures.forget(name)
        self._changed()
        return _json({"name": name})

    def _rois_json(self) -> dict[str, Any]:
        assert self._rois is not None
        return dict(self._rois.to_json()["rois"])

    def _named_roi(self, call: Call, must_exist: bool) -> str:
        name = call.path["name"]
        if self._rois is None:
            raise Refusal(404, "this run has no regions; start it with --rois FILE")
        if must_exist and name not in self._rois_json():
            raise Refusal(404, "there is no region of that name")
        return name

    def roi(self, call: Call) -> Reply:
        """Return a region's polygon."""
        return _json({"points": self._rois_json()[self._named_roi(call, must_exist=True)]})

    def put_roi(self, call: Call) -> Reply:
        """Add or replace a region."""
        name = self._named_roi(call, must_exist=False)
        if not re.fullmatch(NAME, name):
            raise Refusal(400, f"a region's name matches {NAME}")
        points = fields(call.body, {"points": polygon(3, MAX_POINTS)})["points"]
        assert self._rois is not None
        if len(self._rois_json()) >= MAX_ROIS and name not in self._rois_json():
            raise Refusal(409, f"there are {MAX_ROIS} regions already; remove one first")
        with _refusing():
            self._rois.put(name, points)
        self._changed()
        return _json({"points": points})

    def remove_roi(self, call: Call) -> Reply:
        """Remove a region."""
        name = self._named_roi(call, must_exist=True)
        assert self._rois is not None
        with _refusing():
            self._rois.remove(name)
        self._changed()
        return _json({"name": name})

    def healthz(self, call: Call) -> Reply:
        """200 while every source streams and no sink fails, else 503."""
        ok, details = health(self._control)
        return _json(details, 200 if ok else 503)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns the errors of a run into refusals: the request fits the document, but the run does not do it."""
    try:
        yield
    except EdgesegError as error:
        raise Refusal(409, redacted(str(error))) from error
