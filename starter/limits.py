"""Around every request: how large it may be, the line that the log keeps of it, and what a bug looks like outside."""

import asyncio
import time
import uuid
from datetime import timedelta

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starter.problems import Problem, internal_error, render

_log = structlog.get_logger()
BODY_WITHIN = timedelta(seconds=30)
"""How long a request may take to bring its body: the largest one takes this long at 270 kbit/s."""


class BodyLimit:
    """Refuses bodies that are larger than allowed, whether they say so beforehand or not, and those that do not come.

    Args:
        within: for the whole body, so that one that comes a byte at a time is refused, too.
    """

    def __init__(self, app: ASGIApp, most: int, within: timedelta = BODY_WITHIN) -> None:
        self._app = app
        self._most = most
        self._within = within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the limit, then hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._within.total_seconds()):
                chunks = await self._read(receive)
        except TimeoutError:
            await render(_TOO_SLOW)(scope, receive, send)
            return
        if chunks is None:
            await render(self._too_large())(scope, receive, send)
            return
        waiting = iter(chunks)

        async def replay() -> Message:
            return next(waiting, None) or await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> list[Message] | None:
        """Return what comes up to the body's end; None when it is too much."""
        chunks: list[Message] = []
        size = 0
        while True:
            message = await receive()
            chunks.append(message)
            size += len(message.get("body", b""))
            if size > self._most:
                return None
            if message["type"] != "http.request" or not message.get("more_body", False):
                return chunks

    def _too_large(self) -> Problem:
        return Problem(413, "body_too_large", f"请求体不能超过 {self._most} 字节;附件请只提交引用。")


_TOO_SLOW = Problem(
    408,
    "body_too_slow",
    f"请求体在 {BODY_WITHIN.total_seconds():.0f} 秒内未收全(或 Content-Length 大于实际内容),连接已关闭,请重新提交。",
    headers={"Connection": "close"},
)


class RequestLog:
    """One line a request: route, status, duration and person; never bodies or addresses with texts in them.

    The request's number is in every line that is logged on the way and in the answer's `X-Request-Id`. A bug ends
    here: the caller learns the number, the log everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, then log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        number = uuid.uuid4().hex
        structlog.contextvars.bind_contextvars(request=number)
        began, status, answering = time.perf_counter(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, answering
            if message["type"] == "http.response.start":
                status, answering = message["status"], True
                message["headers"] = [*message.get("headers", []), (b"x-request-id", number.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            _log.exception("internal_error")
            if answering:
                raise
            await render(internal_error(number))(scope, receive, sending)
        finally:
            route = scope.get("route")
            _log.info(
                "request",
                method=scope["method"],
                route=getattr(route, "path", None),
                status=status,
                milliseconds=round((time.perf_counter() - began) * 1000, 1),
            )
