"""Pictures: the latest one, and one after another without end."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Awaitable, Callable, MutableMapping

from edgeseg.runtime.preview.bodies import Refusal, text
from edgeseg.runtime.preview.operation import Call, Drop, Page, Reply
from edgeseg.runtime.preview.pictures import MAX_VIEWERS, Pictures, Viewer

__all__ = ["VIEWER", "frame", "stream"]

VIEWER = text(16, r"[0-9a-f]{16}", "is 16 hexadecimal digits")
_SEND_TIMEOUT_S = 5.0
_BOUNDARY = "edgeseg-frame"
# Follows each picture at once: Chromium shows a part when it has seen the next one's header.
_NEXT = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def frame(page: Page, call: Call) -> Reply:
    """Return a source's latest picture."""
    picture = await page.pictures.picture(call.path["source"])
    if picture is None:
        raise _no_result()
    age = f"{(time.perf_counter_ns() - picture.captured_ns) / 1e9:.3f}"
    return Reply(picture.jpeg, content_type="image/jpeg", headers=(("x-frame-age-seconds", age),))


async def stream(page: Page, call: Call) -> Stream:
    """Return an answer without end."""
    source, viewers = call.path["source"], page.pictures.viewers
    if page.pictures.latest(source) is None:
        raise _no_result()
    if len(viewers) >= MAX_VIEWERS:
        raise Refusal(503, f"{MAX_VIEWERS} viewers are watching already; close one")
    return Stream(Viewer(source, call.query.get("viewer", "")), page.pictures, page.drop)


def _no_result() -> Refusal:
    return Refusal(404, "that source has no result yet, or there is no source of that name")


class Stream:
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
