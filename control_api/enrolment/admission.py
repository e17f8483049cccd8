"""The one place that decides whether a token may register a machine, and what it grants."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from control_api.enrolment import store, tokens
from control_api.enrolment.models import EnrolmentToken
from control_api.enrolment.tokens import TokenStatus
from control_api.errors import InvalidRegistrationToken

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in store

NO_DIGEST = bytes(32)  # no text has this hash; compared where there is no token, so that it costs the same


class Grant(NamedTuple):
    """What a token allows the machine that shows it. token_id: None for the token of the settings."""

    name: str
    token_id: UUID | None = None
    labels: dict[str, str] = {}  # noqa: RUF012 - read only
    approval_required: bool = False
    may_replace: bool = False


class Bootstrap:
    """The token of the settings, known by its hash only: every machine, for as long as it is set."""

    grant = Grant("bootstrap")

    def __init__(self, token: str) -> None:
        """Accept this token."""
        self._digest = tokens.digest(token)

    def matches(self, digest: bytes) -> bool:
        """Say whether this is the hash of the token."""
        return hmac.compare_digest(self._digest, digest)


def admit(
    session: Session,
    bootstrap: Bootstrap,
    token: str,
    *,
    machine_id: str | None,
    hostname: str,
    peer: str | None,
    now: datetime,
) -> Grant:
    """Return what the token grants; whatever is wrong with it, the work and the answer are the same.

    A token that is used up still lets in the machine that it has already let in: it counts machines, not requests.
    Raises InvalidRegistrationToken.
    """
    digest = tokens.digest(token)
    row = store.token(session, tokens.id_of(token))
    returning = store.let_in(session, tokens.id_of(token), machine_id=machine_id, hostname=hostname)
    by_settings = bootstrap.matches(digest)
    by_row = hmac.compare_digest(row.digest if row else NO_DIGEST, digest)
    wrong = _complaint(row, returning=returning, peer=peer, now=now)
    if by_settings:
        return bootstrap.grant
    if row is None or not by_row:
        raise InvalidRegistrationToken
    if wrong is not None:
        raise InvalidRegistrationToken(cause=wrong, token=row.name)
    return Grant(row.name, row.id, row.labels, row.approval_required, row.may_replace)


def count(session: Session, grant: Grant, *, is_new: bool, now: datetime) -> None:
    """Note that the grant has let in a machine; is_new: one that it had not let in before.

    Raises InvalidRegistrationToken when its limit was reached meanwhile; the transaction must not be committed then.
    """
    if grant.token_id is not None and not store.use(session, grant.token_id, machines=int(is_new), now=now):
        raise InvalidRegistrationToken(cause="used up", token=grant.name)


def _complaint(row: EnrolmentToken | None, *, returning: bool, peer: str | None, now: datetime) -> str | None:
    """Return what the audit log says is wrong with a token that exists, None when nothing is."""
    if row is None:
        return None
    status = tokens.status(
        revoked_at=row.revoked_at,
        expires_at=row.expires_at,
        uses=row.uses,
        max_uses=row.max_uses,
        now=now,
    )
    if status is TokenStatus.USED_UP and returning:
        status = TokenStatus.ACTIVE
    if status is not TokenStatus.ACTIVE:
        return status.value.lower().replace("_", " ")
    return None if tokens.covers(row.cidrs, peer) else "wrong network"
