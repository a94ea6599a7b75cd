"""How pictures are painted."""

from __future__ import annotations

from edgeseg.runtime.preview.bodies import distinct_texts, number
from edgeseg.runtime.preview.operation import Call, Page, Reply, json_reply, refusing

__all__ = ["ALPHA", "HIDDEN", "set_alpha", "set_classes"]

ALPHA = {"alpha": number(0, 1)}
HIDDEN = {"hidden": distinct_texts(254)}


def set_alpha(page: Page, call: Call) -> Reply:
    """Set the share of the class colour in the picture."""
    page.painter.alpha = call.body["alpha"]
    page.changed()
    return json_reply({"alpha": page.painter.alpha})


def set_classes(page: Page, call: Call) -> Reply:
    """Set which classes are not painted."""
    with refusing():
        page.painter.hide(frozenset(call.body["hidden"]))
    page.changed()
    return json_reply({"hidden": sorted(page.painter.hidden)})
