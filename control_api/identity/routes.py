"""Logging in over HTTP."""

from __future__ import annotations

import structlog
from fastapi import APIRouter

from control_api.envelope import Failure, Success
from control_api.errors import InvalidLogin
from control_api.http import Now, Peer, Someone, Wired, success
from control_api.identity import accounts, wire
from control_api.identity.tokens import Caller
from control_api.service import Service

log = structlog.get_logger()
router = APIRouter(prefix="/api/auth", responses={"4XX": {"model": Failure}, "5XX": {"model": Failure}})


@router.post("/login")
def login(request: wire.Login, service: Wired, now: Now, peer: Peer) -> Success[wire.LoggedIn]:
    """Exchange a username and a password for tokens."""
    service.logins.check(peer)
    try:
        with service.database.reading() as session:
            caller = accounts.log_in(session, request.username, request.password.get_secret_value())
    except InvalidLogin:
        service.logins.failed(peer)
        log.warning("login refused", username=request.username, peer=peer)
        raise
    log.info("login", username=caller.username, peer=peer)
    return success("Logged in", _tokens(service, caller, now))


@router.post("/refresh")
def refresh(request: wire.Refresh, service: Wired, now: Now) -> Success[wire.LoggedIn]:
    """Exchange a refresh token for new tokens, with the role that the user has now."""
    holder = service.refresh_tokens.check(request.refresh_token.get_secret_value(), now)
    with service.database.reading() as session:
        caller = accounts.current(session, holder.user_id)
    return success("Tokens renewed", _tokens(service, caller, now))


@router.get("/me")
def me(caller: Someone, service: Wired) -> Success[wire.Me]:
    """Show who is logged in."""
    with service.database.reading() as session:
        now_known = accounts.current(session, caller.user_id)
    shown = wire.Me(id=now_known.user_id, username=now_known.username, role=now_known.role)
    return success("That is you", shown)


def _tokens(service: Service, caller: Caller, now: Now) -> wire.LoggedIn:
    return wire.LoggedIn(
        access_token=service.access_tokens.issue(caller, now),
        refresh_token=service.refresh_tokens.issue(caller, now),
        expires_in=int(service.access_tokens.lifetime.total_seconds()),
    )
