"""The edge of the pages: who visits, which forms count, what guards every answer, and errors as pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from control_api import errors, http
from control_api.dashboard import query, session
from control_api.dashboard.render import render
from control_api.dashboard.session import Visit
from control_api.events.audit import ANONYMOUS
from control_api.http import Now, Peer, Wired
from control_api.identity.callers import Caller
from control_api.identity.roles import Role
from control_api.workers.wire import ListQuery

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def see(path: str) -> Response:
    return RedirectResponse(path, 303)


class PageRoute(APIRoute):
    """Answers errors with a page, sends who is not logged in to the login, and guards every answer by headers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, wrapped."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await answer(request)
            except errors.Unauthorized:
                response = _to_login(request)
            except errors.MusterError as exc:
                response = _problem(exc, request)
            except RequestValidationError as exc:
                response = _problem(http.invalid(exc.errors()), request)
            response.headers.update(HEADERS)
            return response

        return handle


def pages() -> APIRouter:
    """Return a router whose answers are pages, which are no part of the API's documentation."""
    return APIRouter(include_in_schema=False, route_class=PageRoute)


# ---- who visits


def visit_of(request: Request, peer: Peer) -> Visit:
    """Return how the request came."""
    return Visit(
        scheme=request.url.scheme,
        peer=peer,
        host=request.headers.get("host", ""),
        cookies=request.cookies,
        origin=request.headers.get("origin"),
        fetch_site=request.headers.get("sec-fetch-site"),
    )


Visitor = Annotated[Visit, Depends(visit_of)]


def our_page(request: Request, visit: Visitor, service: Wired, now: Now) -> None:
    """Let in forms of our own pages only. Raises ForeignForm."""
    if not visit.is_from_our_page:
        exc = errors.ForeignForm()
        http.note_refusal(request, service, exc, ANONYMOUS, visit.peer, now)
        raise exc


OurPage = Depends(our_page)


def caller_of(request: Request, visit: Visitor, service: Wired, now: Now) -> Caller:
    """Return who is logged in. Raises Unauthorized."""
    try:
        with service.database.reading() as opened:
            return session.caller(opened, service, visit, now)
    except errors.Unauthorized as exc:
        if request.method == "POST":  # who only looks is led to the login, as everybody is at first
            http.note_refusal(request, service, exc, ANONYMOUS, visit.peer, now)
        raise


Visiting = Annotated[Caller, Depends(caller_of)]


def operator_of(request: Request, caller: Visiting, service: Wired, now: Now, peer: Peer) -> Caller:
    """Return who is logged in, an operator or above. Raises Unauthorized, Forbidden."""
    return http.allowed(Role.OPERATOR)(request, caller, service, now, peer)


Operating = Annotated[Caller, Depends(operator_of)]


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raises InvalidRequest."""
    try:
        body = (await request.body()).decode("ascii")
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=20, errors="strict"))
    except ValueError:
        raise errors.InvalidRequest from None


Form = Annotated[dict[str, str], Depends(form_of)]
Asked = Annotated[ListQuery, Query()]  # but for `limit`: a page has its own size

# ---- errors


def _to_login(request: Request) -> Response:
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
        # The browser keeps a strict cookie back from whoever follows a link of another site; from here it does not.
        return HTMLResponse(render("bounce.html"))
    wanted = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    asks_back = request.method == "GET" and wanted != query.PATH
    return see(f"/login?{urlencode({'next': wanted})}" if asks_back else "/login")


def _problem(exc: errors.MusterError, request: Request) -> Response:
    status = http.failure(exc)[0]
    worker_id = request.path_params.get("worker_id") if request.method == "POST" else None
    back = f"/workers/{worker_id}" if worker_id else query.PATH
    title = HTTPStatus(status).phrase
    shown = render("problem.html", title=title, text=str(exc), details=exc.details, back=back)
    return HTMLResponse(shown, status)
