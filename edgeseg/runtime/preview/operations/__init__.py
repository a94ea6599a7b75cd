"""The table of operations: what the page and other programs may ask of a run."""

from __future__ import annotations

from edgeseg.runtime.preview.bodies import schema_of
from edgeseg.runtime.preview.operation import Operation
from edgeseg.runtime.preview.operations import painting, rois, running, snapshots, sources, state, watching
from edgeseg.runtime.preview.snapshots import FILE_NAME

__all__ = ["OPERATIONS"]

OPERATIONS = (
    Operation(
        "GET", "/api/state", state.state, "All that the page shows.", state.STATE, query={"viewer": watching.VIEWER}
    ),
    Operation("GET", "/api/events", state.events, "The latest 512 events, oldest first.", state.EVENTS),
    Operation(
        "POST",
        "/api/alpha",
        painting.set_alpha,
        "Share of class colour.",
        schema_of(painting.ALPHA),
        body=painting.ALPHA,
    ),
    Operation(
        "POST",
        "/api/classes",
        painting.set_classes,
        "Which classes are not painted.",
        schema_of(painting.HIDDEN),
        refusals=(409,),
        body=painting.HIDDEN,
    ),
    Operation(
        "POST",
        "/api/pause",
        running.pause,
        "Stop inferring, or go on.",
        schema_of(running.PAUSED),
        body=running.PAUSED,
    ),
    Operation(
        "POST",
        "/api/snapshot",
        snapshots.take_snapshot,
        "Keep the latest frame and class ids as PNG where the run is.",
        snapshots.TAKEN,
        status=201,
        refusals=(404, 409),
        body=snapshots.OF,
    ),
    Operation(
        "GET",
        "/api/snapshots/{name}",
        snapshots.snapshot,
        "A PNG that take_snapshot wrote.",
        content_type="image/png",
        refusals=(404, 409),
        path_patterns={"name": FILE_NAME},
    ),
    Operation("GET", "/api/sources", sources.sources, "All sources.", sources.ALL),
    Operation(
        "POST",
        "/api/sources",
        sources.add_source,
        "Open a camera or stream.",
        sources.NAMED,
        status=201,
        refusals=(409,),
        body=sources.ADDED,
    ),
    Operation(
        "DELETE",
        "/api/sources/{name:path}",
        sources.remove_source,
        "Close a source.",
        sources.NAMED,
        refusals=(404, 409),
        path_patterns={"name": sources.IN_PATH},
    ),
    Operation(
        "GET",
        "/api/rois/{name}",
        rois.roi,
        "A region.",
        schema_of(rois.POINTS),
        refusals=(404,),
        path_patterns={"name": rois.NAME},
    ),
    Operation(
        "PUT",
        "/api/rois/{name}",
        rois.put_roi,
        "Add or replace a region.",
        schema_of(rois.POINTS),
        refusals=(404, 409),
        path_patterns={"name": rois.NAME},
        body=rois.POINTS,
    ),
    Operation(
        "DELETE",
        "/api/rois/{name}",
        rois.remove_roi,
        "Remove a region.",
        rois.NAMED,
        refusals=(404, 409),
        path_patterns={"name": rois.NAME},
    ),
    Operation(
        "GET",
        "/stream/{source:path}.mjpg",
        watching.stream,
        "Pictures without end; only the newest is sent.",
        content_type="multipart/x-mixed-replace",
        refusals=(404, 503),
        path_patterns={"source": sources.IN_PATH},
        query={"viewer": watching.VIEWER},
    ),
    Operation(
        "GET",
        "/frame/{source:path}.jpg",
        watching.frame,
        "The latest picture; its age is in X-Frame-Age-Seconds.",
        content_type="image/jpeg",
        refusals=(404,),
        path_patterns={"source": sources.IN_PATH},
    ),
    Operation("GET", "/metrics", running.metrics, "For Prometheus.", content_type="text/plain"),
    Operation(
        "GET",
        "/healthz",
        running.healthz,
        "Whether every source streams and no sink fails.",
        running.HEALTH,
        also={503: "Something is wrong."},
    ),
)
"""Every address of the page but its files. A row and its handler are all that there is to an operation."""
