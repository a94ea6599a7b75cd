"""Sources that come and go."""

from __future__ import annotations

from edgeseg.runtime.preview import schemas
from edgeseg.runtime.preview.bodies import Refusal, optional, text
from edgeseg.runtime.preview.operation import Call, Page, Reply, json_reply, refusing
from edgeseg.runtime.sources.uri import PAGE_SOURCES, SOURCES

__all__ = ["ADDED", "ALL", "IN_PATH", "NAMED", "add_source", "remove_source", "sources"]

IN_PATH = r"[^\x00-\x1f/?#%]+"
_ADDABLE = ", ".join(f"{scheme}://" for scheme, kind in SOURCES.items() if kind.from_page)
ADDED = {
    "uri": text(
        2048,
        PAGE_SOURCES,
        f"is a camera number, /dev/videoN, {_ADDABLE}; files and pipelines are added on the command line only; in an "
        "address a blank is %20, ! is %21, quotes are %22 and %27",
    ),
    "name": optional(text(64, r"[A-Za-z0-9_-]{1,64}")),
}
ALL = schemas.object_of({"sources": schemas.list_of(schemas.ref("Source"))})
NAMED = schemas.object_of({"name": schemas.text()})
_MOST_SOURCES, _MOST_NAMES = 64, 1000


def sources(page: Page, call: Call) -> Reply:
    """Return all sources, those that ended included."""
    return json_reply({"sources": [source.to_json() for source in list(page.control.state.sources.values())]})


def add_source(page: Page, call: Call) -> Reply:
    """Open one more source."""
    known = list(page.control.state.sources.values())
    if sum(source.status != "ended" for source in known) >= _MOST_SOURCES or len(known) >= _MOST_NAMES:
        raise Refusal(409, f"a run takes up to {_MOST_SOURCES} sources at a time and {_MOST_NAMES} in all")
    with refusing():
        name = page.control.add_source(call.body["uri"], call.body.get("name", ""))
    page.changed()
    return json_reply({"name": name}, 201)


def remove_source(page: Page, call: Call) -> Reply:
    """Close a source."""
    name = call.path["name"]
    source = page.control.state.sources.get(name)
    if source is None or source.status == "ended":
        raise Refusal(404, "there is no open source of that name")
    with refusing():
        page.control.remove_source(name)
    page.pictures.forget(name)
    page.changed()
    return json_reply({"name": name})
