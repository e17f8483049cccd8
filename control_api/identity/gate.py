"""The gate that everybody passes who is no worker: logging in, being known, and what is noted of the refused."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from control_api.errors import InvalidLogin, InvalidRequest, MusterError, TooManyAttempts, Unauthorized
from control_api.events import audit
from control_api.identity import accounts, keys, store
from control_api.identity.callers import Caller, program
from control_api.identity.logins import Pair
from control_api.identity.roles import Scope

if TYPE_CHECKING:
    from control_api.identity.models import User
    from control_api.service import Service

ENVIRONMENT_KEY = "MUSTER_INVENTORY_KEY"
log = structlog.get_logger()


def identify(service: Service, token: str | None, now: datetime) -> Caller:
    """Return who holds the token: an access token of a login, or an API key. Raises Unauthorized."""
    if token is None:
        raise Unauthorized
    if _is_environment_key(service, token):
        return program(ENVIRONMENT_KEY, frozenset({Scope.INVENTORY}))
    if token.startswith(keys.PREFIX):
        return keys.authenticate(service.database, token, now)
    with service.database.reading() as session:
        return service.logins.caller(session, token, now)


def log_in(
    service: Service, username: str, password: str, *, peer: str | None, now: datetime
) -> tuple[Caller, Pair]:
    """Return who logs in and their tokens. Raises InvalidLogin, TooManyAttempts, Overloaded."""
    try:
        user = _whose_password(service, username, password, peer)
        with service.database.transaction() as session:
            current = accounts.unchanged(session, user)
            pair = service.logins.begin(session, current, peer=peer, now=now)
            caller = Caller(current.username, current.role, current.id)
            audit.record(
                session, actor=caller.actor, action="login", subject=caller.actor, peer=peer, now=now
            )
    except (InvalidLogin, TooManyAttempts) as exc:
        _refused(service, exc, "login", username, peer=peer, now=now)
        raise
    log.info("login", username=caller.username, peer=peer)
    return caller, pair


def change_password(
    service: Service, caller: Caller, current: str, new: str, *, peer: str | None, now: datetime
) -> Pair:
    """Give the caller, a person, a new password, end all their logins, and begin one that replaces this one.

    Raises InvalidRequest, also for a wrong current password, TooManyAttempts, Overloaded.
    """
    try:
        user = _whose_password(service, caller.username, current, peer)
    except (InvalidLogin, TooManyAttempts) as exc:
        _refused(service, exc, "user.update", caller.username, peer=peer, now=now)
        if isinstance(exc, TooManyAttempts):
            raise
        raise InvalidRequest(details=(("currentPassword", "This is not your password."),)) from None
    accounts.change(
        service.database,
        user.id,
        password=new,
        field="newPassword",
        actor=caller.actor,
        peer=peer,
        now=now,
    )
    with service.database.transaction() as session:
        return service.logins.begin(session, accounts.find(session, user.id), peer=peer, now=now)


def renew(service: Service, refresh_token: str, *, peer: str | None, now: datetime) -> Pair:
    """Exchange a refresh token for new tokens. Raises Unauthorized; a token that comes twice ends its login."""
    try:
        with service.database.transaction() as session:
            caller, pair = service.logins.renew(session, refresh_token, now)
    except Unauthorized as exc:
        service.refusals.note(exc, actor=audit.ANONYMOUS, action="login.refresh", peer=peer, now=now)
        raise
    if pair is None:
        log.warning("refresh token used twice", actor=caller.actor, peer=peer)
        service.refusals.note(
            Unauthorized(),
            actor=caller.actor,
            action="login.refresh",
            subject=caller.actor,
            peer=peer,
            details={"cause": "used twice"},
            now=now,
        )
        raise Unauthorized
    return pair


def log_out(service: Service, caller: Caller, *, peer: str | None, now: datetime) -> None:
    """End the caller's login: its access and refresh tokens are no longer good."""
    with service.database.transaction() as session:
        service.logins.end(session, caller, now)
        audit.record(session, actor=caller.actor, action="logout", subject=caller.actor, peer=peer, now=now)


def _whose_password(service: Service, username: str, password: str, peer: str | None) -> User:
    """Return the user with that password, as long as there were not too many attempts."""
    with service.database.reading() as session:
        user = store.by_name(session, username)
        service.login_attempts.begin(
            peer, username, comes_from_there=lambda: store.came_from(session, username, peer)
        )
    try:
        return accounts.require_password(user, password)
    except InvalidLogin:
        service.login_attempts.failed(peer, username)
        raise


def _refused(
    service: Service, exc: MusterError, action: str, username: str, *, peer: str | None, now: datetime
) -> None:
    """Note it. A name that nobody has is not written down: people type passwords into the wrong field."""
    with service.database.reading() as session:
        known = store.by_name(session, username) is not None
    subject = f"user:{username}" if known else ""
    service.meters.login_refused(exc)
    log.warning("login refused", subject=subject, peer=peer, reason=type(exc).__name__)
    service.refusals.note(exc, actor=audit.ANONYMOUS, action=action, subject=subject, peer=peer, now=now)


def _is_environment_key(service: Service, token: str) -> bool:
    key = service.settings.inventory_key
    given = token.encode("utf-8", "surrogatepass")
    return key is not None and hmac.compare_digest(given, key.get_secret_value().encode())
