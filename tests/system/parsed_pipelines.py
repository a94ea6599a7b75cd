"""What GStreamer makes of pipelines. Run by the system's Python.

Reads a JSON list from standard input, of which each item is a list of arguments, as gst-launch-1.0 gets them, or an
object with ``text`` and ``properties``, as the capture process does. Prints a JSON list: per item the elements with
their factory, their properties, and what they are linked to; or the parser's error.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GObject, Gst  # noqa: E402


def values(element):
    found = {}
    for spec in element.list_properties():
        if spec.name in ("name", "parent") or not spec.flags & GObject.ParamFlags.READABLE:
            continue
        try:
            value = element.get_property(spec.name)
        except TypeError:  # an array, which the bindings do not know
            continue
        if isinstance(value, Gst.Caps):
            found[spec.name] = value.to_string()
        elif isinstance(value, (bool, int, float, str)):
            found[spec.name] = value
    return found


def links(element):
    peers = [(pad.name, pad.get_peer()) for pad in element.pads]
    return sorted(
        f"{name} {peer.get_parent_element().name}" for name, peer in peers if peer and peer.get_parent_element()
    )


def described(item):
    try:
        if isinstance(item, list):
            pipeline = Gst.parse_launchv(item)
        else:
            pipeline = Gst.parse_launch(item["text"])
            for name, properties in item["properties"].items():
                for key, value in properties.items():
                    pipeline.get_by_name(name).set_property(key, value)
    except Exception as error:
        return str(error)
    elements = []
    found = pipeline.iterate_recurse()
    while True:
        result, element = found.next()
        if result != Gst.IteratorResult.OK:
            break
        elements.append([element.get_factory().get_name(), element.parent.name, values(element), links(element)])
    # Elements without a name are numbered on, from pipeline to pipeline.
    return [strip(part) for part in elements]


def strip(part):
    factory, parent, properties, linked = part
    return [factory, parent.rstrip("0123456789"), properties, [one.rstrip("0123456789") for one in linked]]


Gst.init(None)
print(json.dumps([described(item) for item in json.load(sys.stdin)]))
