"""The session of a browser: a login whose access token is in a cookie, and the proof that a form came from our page.

Behind TLS the cookie is `__Host-muster` with Secure, so that no other host and no plain connection can set or read it.
On plain HTTP, which is for browsers on this machine only, they refuse both; there it is `muster`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pydantic import ValidationError

from control_api.dashboard.query import PATH
from control_api.errors import InvalidLogin, NotPrivate, Unauthorized
from control_api.events.audit import ANONYMOUS
from control_api.identity import gate
from control_api.identity.callers import Caller
from control_api.identity.wire import Login
from control_api.service import Service

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in store

SECURE_NAME, PLAIN_NAME = "__Host-muster", "muster"
LOCAL_PAGE = re.compile(r"/(fleet|workers)(?=[/?]|\Z)[\x21-\x5b\x5d-\x7e]*\Z")


@dataclass(frozen=True)
class Visit:
    """How a request came: the scheme, the client's address as believed, and the headers that matter here."""

    scheme: str
    peer: str | None
    host: str
    cookies: Mapping[str, str]
    origin: str | None
    fetch_site: str | None

    @property
    def is_secure(self) -> bool:
        """Say whether it came over TLS."""
        return self.scheme == "https"

    @property
    def is_private(self) -> bool:
        """Say whether nobody between the browser and us can listen: TLS, or a browser on this machine."""
        return self.is_secure or (self.peer is not None and ip_address(self.peer).is_loopback)

    @property
    def is_from_our_page(self) -> bool:
        """Say whether a page of ours sent this; browsers set both headers and no script can change them."""
        if self.fetch_site is not None:
            return self.fetch_site == "same-origin"
        return self.origin is not None and self.origin == f"{self.scheme}://{self.host}"

    @property
    def token(self) -> str | None:
        """The token of the session; a cookie of the other scheme's name counts for nothing."""
        return self.cookies.get(cookie_name(self.is_secure))


def begin(
    service: Service, visit: Visit, form: Mapping[str, str], *, peer: str | None, now: datetime
) -> tuple[str, timedelta]:
    """Log in and return the session's token with its life. Raises NotPrivate, InvalidLogin, TooManyAttempts."""
    if not visit.is_private:
        exc = NotPrivate()
        service.refusals.note(exc, actor=ANONYMOUS, action="login", peer=peer, now=now)
        raise exc
    try:
        given = Login.model_validate({name: form.get(name) for name in ("username", "password")})
    except ValidationError:
        raise InvalidLogin from None
    password = given.password.get_secret_value()
    _, pair = gate.log_in(service, given.username, password, peer=peer, now=now)
    return pair.access, timedelta(seconds=pair.expires_in)


def end(service: Service, visit: Visit, *, now: datetime) -> None:
    """Log out: the session's token is no longer good, wherever a copy of it may be."""
    with suppress(Unauthorized):
        gate.log_out(service, gate.identify(service, visit.token, now), peer=visit.peer, now=now)


def caller(session: Session, service: Service, visit: Visit, now: datetime) -> Caller:
    """Return who is logged in. Raises Unauthorized."""
    if visit.token is None:
        raise Unauthorized
    return service.logins.caller(session, visit.token, now)


def cookie_name(is_secure: bool) -> str:
    """Return the name of the session's cookie."""
    return SECURE_NAME if is_secure else PLAIN_NAME


def cookie(token: str, life: timedelta, *, is_secure: bool) -> str:
    """Return the Set-Cookie header that begins a session; with no token and no life it ends one."""
    seconds = int(life.total_seconds())
    parts = [
        f"{cookie_name(is_secure)}={token}",
        f"Max-Age={seconds}",
        "Path=/",
        "HttpOnly",
        "SameSite=Strict",
    ]
    return "; ".join([*parts, "Secure"] if is_secure else parts)


def page_after_login(wanted: str) -> str:
    """Return the page to show after the login: the wanted one when it is a page of ours."""
    return wanted if LOCAL_PAGE.match(wanted) else PATH
