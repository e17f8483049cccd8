"""Logging in and out with a browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, Response

from control_api import errors, http
from control_api.dashboard import session
from control_api.dashboard.http import Form, OurPage, Visitor, caller_of, pages, see
from control_api.dashboard.render import render
from control_api.http import Now, Peer, Wired

router = pages()


@router.get("/login")
def show_login(
    request: Request,
    visit: Visitor,
    service: Wired,
    now: Now,
    following: Annotated[str, Query(alias="next")] = "",
) -> Response:
    """Show the form; who is logged in already goes on."""
    try:
        caller_of(request, visit, service, now)
    except errors.Unauthorized:
        return HTMLResponse(render("login.html", problem="", username="", next=following))
    return see(session.page_after_login(following))


@router.post("/login", dependencies=[OurPage])
def log_in(form: Form, visit: Visitor, service: Wired, now: Now, peer: Peer) -> Response:
    """Begin a session."""
    following = form.get("next", "")
    try:
        token, life = session.begin(service, visit, form, peer=peer, now=now)
    except (errors.InvalidLogin, errors.TooManyAttempts, errors.NotPrivate) as exc:
        shown = render("login.html", problem=str(exc), username=form.get("username", ""), next=following)
        return HTMLResponse(shown, http.failure(exc)[0])
    response = see(session.page_after_login(following))
    response.headers["Set-Cookie"] = session.cookie(token, life, is_secure=visit.is_secure)
    return response


@router.post("/logout", dependencies=[OurPage])
def log_out(visit: Visitor, service: Wired, now: Now) -> Response:
    """End the session."""
    session.end(service, visit, now=now)
    response = see("/login")
    response.headers["Set-Cookie"] = session.cookie("", timedelta(0), is_secure=visit.is_secure)
    return response
