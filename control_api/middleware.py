"""What stands around every request: its id, its line in the access log, its headers, the size of its body."""

from __future__ import annotations

import ipaddress
import itertools
import re
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import _TrustedHosts

Headers = Iterable[tuple[bytes, bytes]]
MAX_BODY = 64 * 1024
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
THIS_PROCESS, requests = uuid.uuid4().hex[:16].encode(), itertools.count(1)
PROXY = "127.0.0.1"  # nginx on this machine says who asks; nobody else is believed
believed = _TrustedHosts(PROXY)
# An answer of the API runs, embeds and shows nothing; a page that needs more names it itself. HSTS is nginx's.
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),  # almost every answer names people, machines or secrets
)
log = structlog.get_logger()


def request_id(headers: Headers) -> bytes:
    """Return the id of a request: the one that it brings, else a new one, which no other request has."""
    for name, value in headers:
        if name == b"x-request-id":
            if REQUEST_ID.match(value):
                return value
            break
    return b"%b%016x" % (THIS_PROCESS, next(requests))


def peer(client: Sequence[Any] | None, headers: Headers) -> str | None:
    """Return the address of whoever asks; client: who holds the connection, the proxy mostly."""
    host = client[0] if client else None
    forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
    if forwarded and host in believed:
        host = believed.get_trusted_client_address(b", ".join(forwarded).decode("latin-1"))[0] or host
    return address(host)


def address(host: str | None) -> str | None:
    """Return the address as it is written down, None for what is none: the proxy can be told anything."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0])) if host else None
    except ValueError:
        return None


class RequestId:
    """Gives every request an id, which the answer and every line of the log about it carry."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own = request_id(scope["headers"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", own)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=own.decode()):
            await self.app(scope, receive, send_with_id)


class AccessLog:
    """Writes one line a request: who, what, how it ended, how long it took. Never a query, which may hold secrets."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500  # unless an answer was begun

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            log.info("request", **_line(scope, status, time.perf_counter() - begun))


class Counted:
    """Counts every request by the template of its route, with the time until its answer began: streams never end."""

    def __init__(self, app: ASGIApp, count: Callable[[str, str, int, float], None]) -> None:
        """Wrap the application. count: told method, template, status and seconds."""
        self.app = app
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status, took = 500, None  # unless an answer was begun

        async def watched(message: Message) -> None:
            nonlocal status, took
            if message["type"] == "http.response.start":
                status, took = message["status"], time.perf_counter() - begun
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.count(scope["method"], route, status, took or time.perf_counter() - begun)


class SecurityHeaders:
    """Adds the headers that tell a browser to trust an answer with nothing, where the answer does not say otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                missing = [pair for pair in HEADERS if pair[0] not in there]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Faults:
    """Answers what nobody expected, within all the others: so that this answer, too, has its headers and its id."""

    def __init__(self, app: ASGIApp, answer: Callable[[Exception], ASGIApp]) -> None:
        """Wrap the application. answer: what is answered to whom a fault of ours befalls."""
        self.app = app
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as exc:
            if has_begun or scope["type"] != "http":
                raise
            await self.answer(exc)(scope, receive, send)


class BodyLimit:
    """Refuses a larger body as soon as it shows, in the envelope, which FastAPI's own limit does not know."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413)  # any other class becomes a 400 on its way
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)


def _line(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    client = scope.get("client")
    return {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "ms": round(seconds * 1000, 1),
        "actor": scope.get("state", {}).get("actor", "anonymous"),
        "peer": client[0] if client else None,
    }
