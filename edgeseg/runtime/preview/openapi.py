"""The API, said exactly: the document at /openapi.json. Written by hand; a fuzzer holds the server to it."""

from __future__ import annotations

from typing import Any

from edgeseg import __version__
from edgeseg.runtime.preview.api import MAX_POINTS, NAME, VIEWER
from edgeseg.runtime.sources.uri import PAGE_SOURCES

__all__ = ["document"]


def document() -> dict[str, Any]:
    """Return an OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgeseg preview",
            "version": __version__,
            "description": "A run of edgeseg, seen and steered. Errors are JSON with one line. Where a token is set, "
            "send it as Authorization: Bearer.",
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _object({"error": _text()}), "Source": _SOURCE, "Laps": _LAPS},
        },
        "security": [{}, {"token": []}],
        "paths": _paths(),
    }


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def _number(**more: Any) -> dict[str, Any]:
    return {"type": "number", **more}


def _list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _map(values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_BOOL: dict[str, Any] = {"type": "boolean"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_SHARE = _number(minimum=0, maximum=1)
_POINTS = _list(
    {"type": "array", "items": _SHARE, "minItems": 2, "maxItems": 2},
    minItems=3,
    maxItems=MAX_POINTS,
    description="[x, y] pairs, shares of the picture's width and height.",
)
_LAPS = _object(
    {
        "count": _COUNT,
        "mean_ms": _number(),
        "p50_ms": _number(),
        "p90_ms": _number(),
        "p95_ms": _number(),
        "p99_ms": _number(),
        "max_ms": _number(),
    }
)
_SOURCE = _object(
    {
        "name": _text(),
        "description": _text(),
        "status": {"enum": ["opening", "streaming", "stalled", "restarting", "failed", "ended"]},
        "error": _text(),
        "produced": _COUNT,
        "segmented": _COUNT,
        "dropped": _map(_COUNT),
        "restarts": _COUNT,
        "size": _text(pattern=r"^\d+x\d+$"),
        "fps": _number(),
        "age_ms": _or_null(_ref("Laps")),
        "area": _map(_SHARE),
        "picture_age_ms": _or_null(_number()),
    },
    optional=("picture_age_ms",),
)
_SINK = _object(
    {
        "description": _text(),
        "status": {"enum": ["ok", "slow", "failing"]},
        "error": _text(),
        "written": _COUNT,
        "kept": _COUNT,
        "lost": _map(_COUNT),
        "write_ms": _or_null(_ref("Laps")),
        "age_ms": _or_null(_ref("Laps")),
    }
)
_RUN = _object(
    {
        "frames": _COUNT,
        "produced": _COUNT,
        "dropped": _COUNT,
        "fps": _number(),
        "ended": _text(),
        "paused": _BOOL,
        "ms": _map(_ref("Laps")),
        "miou": _or_null(_SHARE),
        "sources": _list(_ref("Source")),
        "sinks": _list(_SINK),
    }
)
_STATE = _object(
    {
        "version": _text(),
        "at": _number(description="Seconds since 1970."),
        "run": _RUN,
        "recent_ms": {**_map(_number()), "description": "Median of each stage over the latest frames."},
        "alpha": _SHARE,
        "classes": _list(_object({"name": _text(), "colour": _text(pattern="^#[0-9a-f]{6}$"), "hidden": _BOOL})),
        "alarms": _or_null(_list({"type": "object", "required": ["alarm", "source"]})),
        "rois": _or_null(_map(_POINTS)),
        "viewer": _or_null(_object({"source": _text(), "frame": _COUNT, "age_ms": _number()})),
    }
)
_EVENTS = _object(
    {
        "events": _list(
            _object({"at": _number(), "level": {"enum": ["info", "warning", "error"]}, "who": _text(), "text": _text()})
        )
    }
)
_SNAPSHOT = _object({"frame": _text(), "mask": _text(), "folder": _text(), "index": _COUNT})
_HEALTH = _object(
    {
        "ok": _BOOL,
        "ended": _text(),
        "sources": _map(_text()),
        "sinks": _list(_object({"description": _text(), "status": _text()})),
    }
)

_WHY = {
    "400": "The request does not fit this document.",
    "401": "A token is needed.",
    "403": "Another site's page asked.",
    "404": "There is no such thing.",
    "405": "Not this method.",
    "408": "The body came too slowly.",
    "409": "The run does not do it; the line says why.",
    "413": "The body is larger than 64 KiB.",
    "415": "The body is not announced as application/json.",
    "421": "The Host header names another machine.",
    "503": "Too many viewers or connections.",
}
_ALWAYS = ("401", "403", "405", "421")
_WITH_BODY = ("400", "408", "413", "415")


def _content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": schema}}


def _answers(ok: str, content: dict[str, Any], refusals: tuple[str, ...]) -> dict[str, Any]:
    errors = {
        status: {"description": _WHY[status], "content": _content("application/json", _ref("Error"))}
        for status in sorted({*refusals, *_ALWAYS})
    }
    return {ok: {"description": "Done.", "content": content}, **errors}


def _operation(
    name: str,
    summary: str,
    content: dict[str, Any],
    *,
    ok: str = "200",
    refusals: tuple[str, ...] = (),
    parameters: tuple[dict[str, Any], ...] = (),
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _content("application/json", body)}
        refusals = (*refusals, *_WITH_BODY)
    return {**operation, "responses": _answers(ok, content, refusals)}


def _in_path(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _text(pattern=pattern)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return _content("application/json", schema)


def _paths() -> dict[str, Any]:
    jpeg: dict[str, Any] = {"image/jpeg": {}}
    viewer = {"name": "viewer", "in": "query", "required": False, "schema": _text(pattern=f"^{VIEWER}$")}
    source = _in_path("source", r"^[^\x00-\x1f/?#%]+$")
    source_name = _in_path("name", r"^[^\x00-\x1f/?#%]+$")
    roi = _in_path("name", f"^{NAME}$")
    points = _object({"points": _POINTS})
    named = _json(_object({"name": _text()}))
    new_source = _object(
        {"uri": _text(maxLength=2048, pattern=f"^{PAGE_SOURCES}$"), "name": _text(pattern=f"^{NAME}$")},
        optional=("name",),
    )
    alpha, paused = _object({"alpha": _SHARE}), _object({"paused": _BOOL})
    hidden = _object({"hidden": _list(_text(), uniqueItems=True, maxItems=254)})
    health = _operation("healthz", "Whether every source streams and no sink fails.", _json(_HEALTH))
    health["responses"]["503"] = {"description": "Something is wrong.", "content": _json(_HEALTH)}
    return {
        "/api/state": {
            "get": _operation(
                "state", "All that the page shows.", _json(_STATE), parameters=(viewer,), refusals=("400",)
            )
        },
        "/api/events": {"get": _operation("events", "The latest 512 events, oldest first.", _json(_EVENTS))},
        "/api/alpha": {"post": _operation("set_alpha", "Share of class colour.", _json(alpha), body=alpha)},
        "/api/classes": {
            "post": _operation(
                "set_classes", "Which classes are not painted.", _json(hidden), refusals=("409",), body=hidden
            )
        },
        "/api/pause": {"post": _operation("pause", "Stop inferring, or go on.", _json(paused), body=paused)},
        "/api/snapshot": {
            "post": _operation(
                "take_snapshot",
                "Keep the latest frame and class ids as PNG where the run is.",
                _json(_SNAPSHOT),
                ok="201",
                refusals=("404", "409"),
                body=_object({"source": _text(maxLength=200, pattern=r"^[^\x00-\x1f\x7f]*$")}),
            )
        },
        "/api/snapshots/{name}": {
            "get": _operation(
                "snapshot",
                "A PNG that take_snapshot wrote.",
                {"image/png": {}},
                refusals=("404", "409"),
                parameters=(_in_path("name", r"^[A-Za-z0-9_-]{1,120}\.png$"),),
            )
        },
        "/api/sources": {
            "get": _operation("sources", "All sources.", _json(_object({"sources": _list(_ref("Source"))}))),
            "post": _operation(
                "add_source", "Open a camera or stream.", named, ok="201", refusals=("409",), body=new_source
            ),
        },
        "/api/sources/{name}": {
            "delete": _operation(
                "remove_source", "Close a source.", named, refusals=("404", "409"), parameters=(source_name,)
            )
        },
        "/api/rois/{name}": {
            "get": _operation("roi", "A region.", _json(points), refusals=("404",), parameters=(roi,)),
            "put": _operation(
                "put_roi",
                "Add or replace a region.",
                _json(points),
                refusals=("404", "409"),
                parameters=(roi,),
                body=points,
            ),
            "delete": _operation("remove_roi", "Remove a region.", named, refusals=("404", "409"), parameters=(roi,)),
        },
        "/stream/{source}.mjpg": {
            "get": _operation(
                "stream",
                "Pictures without end; only the newest is sent.",
                {"multipart/x-mixed-replace": {}},
                refusals=("400", "404", "503"),
                parameters=(source, viewer),
            )
        },
        "/frame/{source}.jpg": {
            "get": _operation(
                "frame",
                "The latest picture; its age is in X-Frame-Age-Seconds.",
                jpeg,
                refusals=("404",),
                parameters=(source,),
            )
        },
        "/metrics": {"get": _operation("metrics", "For Prometheus.", {"text/plain": {}})},
        "/healthz": {"get": health},
    }
