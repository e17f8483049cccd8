"""Logging in and out over HTTP, and one's own password."""

from __future__ import annotations

from fastapi import APIRouter

from control_api.envelope import Success
from control_api.errors import InvalidLogin, Overloaded, TooManyAttempts, Unauthorized, UserNotFound
from control_api.http import Now, Peer, Person, Someone, Wired, answers, answers_to_anyone, success
from control_api.identity import gate, wire
from control_api.identity.logins import Pair

router = APIRouter(prefix="/api/auth", tags=["access"])


@router.post("/login", responses=answers_to_anyone(InvalidLogin, TooManyAttempts, Overloaded))
def login(request: wire.Login, service: Wired, now: Now, peer: Peer) -> Success[wire.LoggedIn]:
    """Exchange a username and a password for tokens."""
    password = request.password.get_secret_value()
    _, pair = gate.log_in(service, request.username, password, peer=peer, now=now)
    return success("Logged in", _shown(pair))


@router.post("/refresh", responses=answers_to_anyone(Unauthorized))
def refresh(request: wire.Refresh, service: Wired, now: Now, peer: Peer) -> Success[wire.LoggedIn]:
    """Exchange a refresh token for new tokens. It is used once: who sends it again ends the whole login."""
    pair = gate.renew(service, request.refresh_token.get_secret_value(), peer=peer, now=now)
    return success("Tokens renewed", _shown(pair))


@router.post("/logout", responses=answers())
def logout(caller: Person, service: Wired, now: Now, peer: Peer) -> Success[wire.LoggedOut]:
    """End this login: its access tokens and its refresh token are no longer good, at once."""
    gate.log_out(service, caller, peer=peer, now=now)
    return success("Logged out", wire.LoggedOut())


@router.post("/password", responses=answers(UserNotFound, TooManyAttempts, Overloaded))
def change_password(
    request: wire.PasswordChange, caller: Person, service: Wired, now: Now, peer: Peer
) -> Success[wire.LoggedIn]:
    """Change one's own password; every login of oneself ends, and the tokens of a new one are returned."""
    current, new = request.current_password.get_secret_value(), request.new_password.get_secret_value()
    pair = gate.change_password(service, caller, current, new, peer=peer, now=now)
    return success("Password changed", _shown(pair))


@router.get("/me", responses=answers_to_anyone(Unauthorized))
def me(caller: Someone) -> Success[wire.Me]:
    """Show who asks."""
    shown = wire.Me(
        id=caller.user_id, username=caller.username, role=caller.role, scopes=sorted(caller.scopes)
    )
    return success("That is you", shown)


def _shown(pair: Pair) -> wire.LoggedIn:
    return wire.LoggedIn(access_token=pair.access, refresh_token=pair.refresh, expires_in=pair.expires_in)
