"""Regions of interest."""

from __future__ import annotations

import re
from typing import Any

from edgeseg.runtime.preview import schemas
from edgeseg.runtime.preview.bodies import Refusal, polygon
from edgeseg.runtime.preview.operation import Call, Page, Reply, Rois, json_reply, refusing

__all__ = ["NAME", "NAMED", "POINTS", "put_roi", "remove_roi", "roi"]

NAME = r"[A-Za-z0-9_-]{1,64}"
NAMED = schemas.object_of({"name": schemas.text()})
POINTS = {"points": polygon(3, 1000)}
_MOST_ROIS = 64


def roi(page: Page, call: Call) -> Reply:
    """Return a region's polygon."""
    return json_reply({"points": _polygons(_rois(page))[_existing(page, call)]})


def put_roi(page: Page, call: Call) -> Reply:
    """Add or replace a region."""
    rois, name, points = _rois(page), call.path["name"], call.body["points"]
    if not re.fullmatch(NAME, name):
        raise Refusal(400, f"a region's name matches {NAME}")
    if len(_polygons(rois)) >= _MOST_ROIS and name not in _polygons(rois):
        raise Refusal(409, f"there are {_MOST_ROIS} regions already; remove one first")
    with refusing():
        rois.put(name, points)
    page.changed()
    return json_reply({"points": points})


def remove_roi(page: Page, call: Call) -> Reply:
    """Remove a region."""
    name = _existing(page, call)
    with refusing():
        _rois(page).remove(name)
    page.changed()
    return json_reply({"name": name})


def _rois(page: Page) -> Rois:
    if page.rois is None:
        raise Refusal(404, "this run has no regions; start it with 'edgeseg run --rois FILE'")
    return page.rois


def _polygons(rois: Rois) -> dict[str, Any]:
    return dict(rois.to_json()["rois"])


def _existing(page: Page, call: Call) -> str:
    name = call.path["name"]
    if name not in _polygons(_rois(page)):
        raise Refusal(404, "there is no region of that name")
    return name
