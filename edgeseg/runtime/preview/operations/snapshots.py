"""Keeping a frame and its class ids, and looking at what was kept."""

from __future__ import annotations

from edgeseg.runtime.preview.bodies import Refusal, text
from edgeseg.runtime.preview.operation import Call, Page, Reply, json_reply, refusing
from edgeseg.runtime.preview.schemas import COUNT, object_of
from edgeseg.runtime.preview.schemas import text as text_schema

__all__ = ["OF", "TAKEN", "snapshot", "take_snapshot"]

OF = {"source": text(200)}
TAKEN = object_of({"frame": text_schema(), "mask": text_schema(), "folder": text_schema(), "index": COUNT})


def take_snapshot(page: Page, call: Call) -> Reply:
    """Keep a source's latest frame and class ids on the machine that runs."""
    result = page.pictures.latest(call.body["source"])
    if result is None:
        raise Refusal(404, "that source has no result yet, or there is no source of that name")
    with refusing():
        frame, mask = page.snapshots.take(result)
    page.control.state.tell("info", "run", f"snapshot {page.snapshots.folder / frame}")
    links = {"frame": f"/api/snapshots/{frame}", "mask": f"/api/snapshots/{mask}"}
    return json_reply({**links, "folder": str(page.snapshots.folder), "index": result.frame.index}, 201)


def snapshot(page: Page, call: Call) -> Reply:
    """Return a file that take_snapshot wrote."""
    name = call.path["name"]
    with refusing():
        data = page.snapshots.read(name)
    if data is None:
        raise Refusal(404, "no snapshot of that name was taken in this run")
    attached = ("content-disposition", f'attachment; filename="{name}"')
    return Reply(data, content_type="image/png", headers=(attached,))
