"""The API, said exactly: the document at /openapi.json. It is made of the table of operations."""

from __future__ import annotations

import re
from typing import Any

from edgeseg import __version__
from edgeseg.runtime.preview.bodies import schema_of
from edgeseg.runtime.preview.operation import Operation
from edgeseg.runtime.preview.operations import OPERATIONS
from edgeseg.runtime.preview.schemas import COMPONENTS, as_json, ref, text

__all__ = ["document"]

_WHY = {
    400: "The request does not fit this document.",
    401: "A token is needed.",
    403: "Another site's page asked.",
    404: "There is no such thing.",
    405: "Not this method.",
    408: "The body came too slowly.",
    409: "The run does not do it; the line says why.",
    413: "The body is larger than 64 KiB.",
    415: "The body is not announced as application/json.",
    421: "The Host header names another machine.",
    503: "Too many viewers or connections.",
}
_ALWAYS = (401, 403, 405, 421)
_WITH_BODY = (400, 408, 413, 415)
_WITH_QUERY = (400,)


def document() -> dict[str, Any]:
    """Return an OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        path = re.sub(r":\w+}", "}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _described(operation)
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
            "schemas": COMPONENTS,
        },
        "security": [{}, {"token": []}],
        "paths": paths,
    }


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.handler.__name__, "summary": operation.summary}
    parameters = [
        *(_parameter(name, "path", text(pattern=f"^{p}$"), True) for name, p in operation.path_patterns.items()),
        *(_parameter(name, "query", check.schema, False) for name, check in operation.query.items()),
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": as_json(schema_of(operation.body))}
    return {**described, "responses": _responses(operation)}


def _parameter(name: str, place: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _responses(operation: Operation) -> dict[str, Any]:
    content = {operation.content_type: {"schema": operation.answer} if operation.answer else {}}
    with_body = _WITH_BODY if operation.body is not None else ()
    refusals = {*operation.refusals, *with_body, *(_WITH_QUERY if operation.query else ()), *_ALWAYS}
    return {
        str(operation.status): {"description": "Done.", "content": content},
        **{str(s): {"description": _WHY[s], "content": as_json(ref("Error"))} for s in sorted(refusals)},
        **{str(s): {"description": why, "content": content} for s, why in operation.also.items()},
    }
