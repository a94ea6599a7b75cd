"""The routes: reads requests whole and bounded, has an operation answer them, and sends what it says."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Mapping

from edgeseg.errors import first_line
from edgeseg.runtime.preview.bodies import Refusal, parsed
from edgeseg.runtime.preview.openapi import document
from edgeseg.runtime.preview.operation import Operation, Page, Reply
from edgeseg.runtime.preview.operations import OPERATIONS

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["MAX_BODY", "application"]

MAX_BODY = 64 * 1024
_BODY_TIMEOUT_S = 10.0
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def application(page: Page, executor: Executor) -> Starlette:
    """Return the Starlette application, without its guard.

    Args:
        page: what handlers work on; the run is told when something of ours breaks.
        executor: where handlers run.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    async def broken(request: Request, error: Exception) -> Response:
        line = f"{request.url.path} broke: {type(error).__name__}: {first_line(error)}"
        page.control.state.tell("error", "preview page", line)
        return _error(500, "this should not happen; see the events")

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return _error(error.status, str(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _error(error.status_code, error.detail, error.headers)

    handlers: dict[Any, Any] = {Exception: broken, Refusal: refused, HTTPException: http}
    return Starlette(routes=[*_files(), *_operations(page, executor)], exception_handlers=handlers)


def _error(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": line}, status, dict(headers or {}))


def _files() -> list[Route]:
    """The page's files, read now: nothing of the disk is looked up by what a request says."""
    from starlette.responses import Response
    from starlette.routing import Route

    folder = Path(__file__).parent / "page"
    contents = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}
    contents["/openapi.json"] = (json.dumps(document(), indent=1).encode(), "application/json")

    async def file(request: Request) -> Response:
        content, kind = contents[request.scope["path"]]
        return Response(content, headers={"content-type": kind})

    return [Route(path, file) for path in contents]


def _operations(page: Page, executor: Executor) -> list[Route]:
    from starlette.routing import Route

    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _answering(operation, page, executor)
    return [Route(path, _by_method(answers), methods=list(answers)) for path, answers in paths.items()]


def _answering(operation: Operation, page: Page, executor: Executor) -> Callable[[Request], Awaitable[Any]]:
    from starlette.responses import Response

    async def answer(request: Request) -> Any:
        body = None if operation.body is None else await _body(request)
        call = operation.call(request.path_params, request.query_params, body)
        if inspect.iscoroutinefunction(operation.handler):
            reply = await operation.handler(page, call)
        else:
            reply = await asyncio.get_event_loop().run_in_executor(executor, operation.handler, page, call)
        if not isinstance(reply, Reply):
            return reply
        return Response(reply.body, reply.status, {"content-type": reply.content_type, **dict(reply.headers)})

    return answer


def _by_method(answers: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> Any:
    async def answer(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return answer


async def _body(request: Request) -> Any:
    """The JSON of a request. Raises Refusal: 408, 413, 415 or 400."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body is sent as Content-Type: application/json")
    length = request.headers.get("content-length", "0")
    if not re.fullmatch(r"\d{1,9}", length) or int(length) > MAX_BODY:
        raise Refusal(413, f"the body has at most {MAX_BODY} bytes")
    try:
        return parsed(await asyncio.wait_for(_read(request), _BODY_TIMEOUT_S))
    except asyncio.TimeoutError as error:
        raise Refusal(408, f"the body did not come within {_BODY_TIMEOUT_S:g} s") from error


async def _read(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refusal(413, f"the body has at most {MAX_BODY} bytes")
    return body
