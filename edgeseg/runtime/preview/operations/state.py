"""What the page shows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgeseg import __version__
from edgeseg.runtime.preview.operation import Call, Page, Reply, json_reply
from edgeseg.runtime.preview.operations.rois import POINTS
from edgeseg.runtime.preview.schemas import BOOL, COUNT, SHARE, list_of, map_of, number, object_of, or_null, ref, text

__all__ = ["EVENTS", "STATE", "events", "state"]

_RECENT = 15
_SINK = object_of(
    {
        "description": text(),
        "status": {"enum": ["ok", "slow", "failing"]},
        "error": text(),
        "written": COUNT,
        "kept": COUNT,
        "lost": map_of(COUNT),
        "write_ms": or_null(ref("Laps")),
        "age_ms": or_null(ref("Laps")),
    }
)
_RUN = object_of(
    {
        "frames": COUNT,
        "produced": COUNT,
        "dropped": COUNT,
        "fps": number(),
        "ended": text(),
        "in_flight": COUNT,
        "paused": BOOL,
        "ms": map_of(ref("Laps")),
        "miou": or_null(SHARE),
        "sources": list_of(ref("Source")),
        "sinks": list_of(_SINK),
    }
)
STATE = object_of(
    {
        "version": text(),
        "at": number(description="Seconds since 1970."),
        "run": _RUN,
        "recent_ms": map_of(number(), description="Median of each stage over the latest frames."),
        "alpha": SHARE,
        "classes": list_of(object_of({"name": text(), "colour": text(pattern="^#[0-9a-f]{6}$"), "hidden": BOOL})),
        "alarms": or_null(list_of({"type": "object", "required": ["alarm", "source"]})),
        "rois": or_null(map_of(POINTS["points"].schema)),
        "viewer": or_null(object_of({"source": text(), "frame": COUNT, "age_ms": number()})),
    }
)
_EVENT = {"at": number(), "level": {"enum": ["info", "warning", "error"]}, "who": text(), "text": text()}
EVENTS = object_of({"events": list_of(object_of(_EVENT))})


def state(page: Page, call: Call) -> Reply:
    """Return everything that the page shows; with ``?viewer=`` also what that viewer's stream was sent."""
    viewer = call.query.get("viewer")
    sent = page.pictures.sent_to(viewer) if viewer else None
    return json_reply({**page.kept_state(lambda: _for_everybody(page)), "viewer": sent})


def events(page: Page, call: Call) -> Reply:
    """Return the latest events, oldest first."""
    return json_reply({"events": [event.to_json() for event in page.control.state.latest_events()]})


def _for_everybody(page: Page) -> dict[str, Any]:
    """The part that is alike for all viewers."""
    live, spec, painter = page.control.state, page.control.spec, page.painter
    run = live.to_json()
    for source in run["sources"]:
        age = page.pictures.age_ms(source["name"])
        source["picture_age_ms"] = None if age is None else round(age, 1)
    recent = {stage: live.watch.latest_ms(stage, _RECENT) for stage in run["ms"]}
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
        "alarms": None if page.alarms is None else [dict(alarm) for alarm in page.alarms.active()],
        "rois": None if page.rois is None else dict(page.rois.to_json()["rois"]),
    }
