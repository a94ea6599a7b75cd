"""The routes: reads requests whole and bounded, hands them to the API in a worker thread, and sends what it says."""

from __future__ import annotations

import asyncio
import json
import re
import time
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Mapping, MutableMapping

from edgeseg.errors import first_line
from edgeseg.runtime.monitoring.prometheus import RunMetrics
from edgeseg.runtime.preview.api import VIEWER, Api, Call, Reply
from edgeseg.runtime.preview.bodies import Refusal, parsed
from edgeseg.runtime.preview.openapi import document
from edgeseg.runtime.preview.pictures import MAX_VIEWERS, Pictures, Viewer
from edgeseg.runtime.state import RunState

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["MAX_BODY", "application"]

MAX_BODY = 64 * 1024
_BODY_TIMEOUT_S = 10.0
_SEND_TIMEOUT_S = 5.0
_BOUNDARY = "edgeseg-frame"
# Follows each picture at once: Chromium shows a part when it has seen the next one's header.
_NEXT = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Drop = Callable[[Any], None]
"""Ends a connection at once, named by the client's address in an ASGI scope."""


def application(
    api: Api, pictures: Pictures, metrics: RunMetrics, state: RunState, executor: Executor, drop: Drop
) -> Starlette:
    """Return the Starlette application, without its guard.

    Args:
        api: handlers.
        pictures: for the streams.
        metrics: for /metrics.
        state: told when something of ours breaks.
        executor: where handlers run.
        drop: see ``Drop``.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    async def broken(request: Request, error: Exception) -> Response:
        state.tell("error", "preview page", f"{request.url.path} broke: {type(error).__name__}: {first_line(error)}")
        return _error(500, "this should not happen; see the events")

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return _error(error.status, str(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _error(error.status_code, error.detail, error.headers)

    handlers: dict[Any, Any] = {Exception: broken, Refusal: refused, HTTPException: http}
    routes = [*_pages(), *_streams(pictures, drop), *_operations(api, metrics, executor)]
    return Starlette(routes=routes, exception_handlers=handlers)


def _error(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": line}, status, dict(headers or {}))


def _pages() -> list[Route]:
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


def _operations(api: Api, metrics: RunMetrics, executor: Executor) -> list[Route]:
    from starlette.responses import Response
    from starlette.routing import Route

    def route(path: str, method: str, handler: Callable[[Call], Reply]) -> tuple[str, str, Any]:
        async def answer(request: Request) -> Response:
            body = await _body(request) if method in ("POST", "PUT") else None
            call = Call(request.path_params, dict(request.query_params), body)
            reply = await asyncio.get_event_loop().run_in_executor(executor, handler, call)
            return Response(reply.body, reply.status, {"content-type": reply.content_type, **dict(reply.headers)})

        return path, method, answer

    def scrape(call: Call) -> Reply:
        return Reply(metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")

    operations = [
        route("/api/state", "GET", api.state),
        route("/api/events", "GET", api.events),
        route("/api/alpha", "POST", api.set_alpha),
        route("/api/classes", "POST", api.set_classes),
        route("/api/pause", "POST", api.pause),
        route("/api/snapshot", "POST", api.take_snapshot),
        route("/api/snapshots/{name}", "GET", api.snapshot),
        route("/api/sources", "GET", api.sources),
        route("/api/sources", "POST", api.add_source),
        route("/api/sources/{name:path}", "DELETE", api.remove_source),
        route("/api/rois/{name}", "GET", api.roi),
        route("/api/rois/{name}", "PUT", api.put_roi),
        route("/api/rois/{name}", "DELETE", api.remove_roi),
        route("/healthz", "GET", api.healthz),
        route("/metrics", "GET", scrape),
    ]
    paths: dict[str, dict[str, Any]] = {}
    for path, method, answer in operations:
        paths.setdefault(path, {})[method] = answer
    return [Route(path, _by_method(answers), methods=list(answers)) for path, answers in paths.items()]


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


def _streams(pictures: Pictures, drop: Drop) -> list[Route]:
    from starlette.responses import Response
    from starlette.routing import Route

    async def frame(request: Request) -> Response:
        picture = await pictures.picture(request.path_params["source"])
        if picture is None:
            raise Refusal(404, "that source has no result yet, or there is no source of that name")
        age = f"{(time.perf_counter_ns() - picture.captured_ns) / 1e9:.3f}"
        return Response(picture.jpeg, headers={"content-type": "image/jpeg", "x-frame-age-seconds": age})

    async def stream(request: Request) -> Any:
        source, name = request.path_params["source"], request.query_params.get("viewer", "")
        if name and not re.fullmatch(VIEWER, name):
            raise Refusal(400, "viewer is 16 hexadecimal digits")
        if pictures.latest(source) is None:
            raise Refusal(404, "that source has no result yet, or there is no source of that name")
        if len(pictures.viewers) >= MAX_VIEWERS:
            raise Refusal(503, f"{MAX_VIEWERS} viewers are watching already; close one")
        return _Stream(Viewer(source, name), pictures, drop)

    return [Route("/stream/{source:path}.mjpg", stream), Route("/frame/{source:path}.jpg", frame)]


class _Stream:
    """An endless multipart answer: one viewer's newest pictures, as fast as he takes them."""

    def __init__(self, viewer: Viewer, pictures: Pictures, drop: Drop) -> None:
        self._viewer, self._pictures, self._drop = viewer, pictures, drop

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        listening = asyncio.ensure_future(self._until_gone(receive))
        self._pictures.viewers.add(self._viewer)
        try:
            kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            if scope["method"] == "GET":
                await self._run(send)
            await self._send(send, b"", more=False)
        except asyncio.TimeoutError:
            self._drop(scope["client"])
        except OSError:
            pass  # how uvicorn says that the viewer is gone
        finally:
            self._pictures.viewers.discard(self._viewer)
            listening.cancel()

    async def _until_gone(self, receive: _Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._viewer.leave()

    async def _send(self, send: _Send, body: bytes, more: bool) -> None:
        message = {"type": "http.response.body", "body": body, "more_body": more}
        await asyncio.wait_for(send(message), _SEND_TIMEOUT_S)

    async def _run(self, send: _Send) -> None:
        await self._send(send, _NEXT, more=True)
        shown: tuple[object, ...] | None = None
        while not (self._viewer.gone or self._pictures.closed):
            self._viewer.news.clear()
            picture = await self._pictures.picture(self._viewer.source)
            if picture is None:
                break
            if picture.key != shown:
                await self._send(send, picture.jpeg + b"\r\n" + _NEXT, more=True)
                shown, self._viewer.sent = picture.key, picture
            await self._viewer.news.wait()
