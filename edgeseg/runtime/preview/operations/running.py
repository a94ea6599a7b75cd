"""Pausing a run, and how it is: for people and for monitors."""

from __future__ import annotations

from edgeseg.runtime.preview.bodies import boolean
from edgeseg.runtime.preview.operation import Call, Page, Reply, json_reply
from edgeseg.runtime.preview.schemas import BOOL, list_of, map_of, object_of, text

__all__ = ["HEALTH", "PAUSED", "healthz", "metrics", "pause"]

PAUSED = {"paused": boolean()}
HEALTH = object_of(
    {
        "ok": BOOL,
        "ended": text(),
        "sources": map_of(text()),
        "sinks": list_of(object_of({"description": text(), "status": text()})),
    }
)


def pause(page: Page, call: Call) -> Reply:
    """Stop inferring, or go on."""
    page.control.pause(call.body["paused"])
    page.changed()
    return json_reply({"paused": call.body["paused"]})


def healthz(page: Page, call: Call) -> Reply:
    """Answer 200 while every source streams and no sink fails, else 503.

    Removed and finished sources do not count, unless there is no other.
    """
    state = page.control.state
    sources = {source.name: source.status for source in list(state.sources.values())}
    counted = [status for status in sources.values() if status != "ended"]
    sinks = [{"description": sink.description, "status": sink.status} for sink in list(state.sinks)]
    ok = bool(counted) and set(counted) == {"streaming"} and all(sink["status"] != "failing" for sink in sinks)
    return json_reply({"ok": ok, "ended": state.ended, "sources": sources, "sinks": sinks}, 200 if ok else 503)


def metrics(page: Page, call: Call) -> Reply:
    """Return the metrics as Prometheus scrapes them."""
    return Reply(page.metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")
