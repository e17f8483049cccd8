"""The JSON contract of the enrolment tokens."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from control_api.enrolment import tokens
from control_api.enrolment.models import EnrolmentToken
from control_api.enrolment.tokens import TokenStatus
from control_api.envelope import Request, Wire
from control_api.workers.wire import LabelKey, LabelValue, Text

DAY = 24 * 60 * 60
Name = Annotated[str, Field(examples=["rack-7"])]


def _name(value: str) -> str:
    if value == "bootstrap":
        msg = "is the name of the token in the service's settings"
        raise ValueError(msg)
    return value


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        network = None
    if network is None or "%" in value or "/" not in value:
        msg = "is not a network such as 192.0.2.0/24"
        raise ValueError(msg)
    if network.network_address != ipaddress.ip_interface(value).ip:
        msg = f"has bits set to the right of its prefix; write {network}"
        raise ValueError(msg)
    return str(network)


class NewEnrolmentToken(Request):
    """What a token is to allow. null is no limit, for the lifetime and for the number of machines."""

    name: Annotated[Name, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"), AfterValidator(_name)]
    description: Text | None = None
    ttl_seconds: Annotated[int, Field(strict=True, ge=60, le=365 * DAY)] | None = Field(
        DAY, description="How long it lets machines in; null: until it is revoked."
    )
    max_uses: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = Field(
        None, description="How many machines it lets in. A machine that comes again is not counted again."
    )
    cidrs: Annotated[
        list[Annotated[str, Field(max_length=49), AfterValidator(_network)]], Field(max_length=32)
    ] = Field([], description="Networks that machines may come from, by observed address; none: all.")
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = Field(
        {}, description="Labels that a new worker gets."
    )
    approval_required: bool = Field(
        False, strict=True, description="A worker gets no join token until an operator approves it."
    )
    may_replace: bool = Field(
        False,
        strict=True,
        description="A machine may take the hostname of an INACTIVE worker, which is removed.",
    )


class EnrolmentTokenView(Wire):
    """A token as administrators see it; the secret is not kept."""

    id: UUID
    name: Name
    description: str | None
    status: TokenStatus
    uses: int
    max_uses: int | None
    cidrs: list[str]
    labels: dict[str, str]
    approval_required: bool
    may_replace: bool
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class CreatedEnrolmentToken(EnrolmentTokenView):
    """A new token with its secret, which is shown this once."""

    token: str


class EnrolmentTokenPage(Wire):
    """Some of the tokens, the newest first, and how many there are."""

    enrolment_tokens: list[EnrolmentTokenView]
    total: int
    limit: int
    offset: int


def view(row: EnrolmentToken, now: datetime) -> EnrolmentTokenView:
    """Return the token as it is seen at this moment."""
    columns = (name for name in EnrolmentTokenView.model_fields if name != "status")
    status = tokens.status(
        revoked_at=row.revoked_at,
        expires_at=row.expires_at,
        uses=row.uses,
        max_uses=row.max_uses,
        now=now,
    )
    return EnrolmentTokenView.model_validate(
        {**{name: getattr(row, name) for name in columns}, "status": status}
    )
