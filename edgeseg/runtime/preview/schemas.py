"""Words of JSON Schema, and the schemas that several operations share."""

from __future__ import annotations

from typing import Any, Dict

__all__ = [
    "BOOL",
    "COMPONENTS",
    "COUNT",
    "SHARE",
    "Schema",
    "as_json",
    "list_of",
    "map_of",
    "number",
    "object_of",
    "or_null",
    "ref",
    "text",
]

Schema = Dict[str, Any]


def text(**more: Any) -> Schema:
    """Return the schema of a string."""
    return {"type": "string", **more}


def number(**more: Any) -> Schema:
    """Return the schema of a number."""
    return {"type": "number", **more}


def list_of(items: Schema, **more: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **more}


def map_of(values: Schema, **more: Any) -> Schema:
    """Return the schema of an object with any names."""
    return {"type": "object", "additionalProperties": values, **more}


def object_of(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """Return the schema of an object with just these names, all of them required but those that are optional."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def or_null(schema: Schema) -> Schema:
    """Return a schema that takes null too."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    """Return a reference to a schema of ``COMPONENTS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def as_json(schema: Schema) -> dict[str, Any]:
    """Return the content of an answer or body in JSON: content type -> its schema."""
    return {"application/json": {"schema": schema}}


BOOL: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE = number(minimum=0, maximum=1)

_ERROR = object_of({"error": text()})
_LAPS = object_of(
    {
        "count": COUNT,
        "mean_ms": number(),
        "p50_ms": number(),
        "p90_ms": number(),
        "p95_ms": number(),
        "p99_ms": number(),
        "max_ms": number(),
        "min_ms": number(),
    }
)
_SOURCE = object_of(
    {
        "name": text(),
        "description": text(),
        "status": {"enum": ["opening", "streaming", "stalled", "restarting", "failed", "ended"]},
        "error": text(),
        "produced": COUNT,
        "segmented": COUNT,
        "dropped": map_of(COUNT),
        "restarts": COUNT,
        "size": text(pattern=r"^\d+x\d+$"),
        "fps": number(),
        "age_ms": or_null(ref("Laps")),
        "area": map_of(SHARE),
        "picture_age_ms": or_null(number()),
    },
    optional=("picture_age_ms",),
)

COMPONENTS = {"Error": _ERROR, "Source": _SOURCE, "Laps": _LAPS}
"""Name -> schema that ``ref`` may name."""
