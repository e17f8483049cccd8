"""The JSON contract of what operators do with workers: create, change, maintain."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, StrictBool

from control_api.envelope import Moment, Request
from control_api.workers.wire import HOSTNAME, Address, Hostname, LabelKey, LabelValue, Text

MAX_LABELS = 64
UNSEEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _notes(value: str) -> str:
    if UNSEEN.search(value):
        msg = "must not hold control characters but line breaks"
        raise ValueError(msg)
    return value


def _place(value: str) -> str:
    with suppress(ValueError):
        return str(ipaddress.ip_address(value.replace("%", "/")))  # an address with a zone is none here
    if HOSTNAME.match(value):
        return value
    msg = "is neither a host name in lower case nor an IP address"
    raise ValueError(msg)


Notes = Annotated[str, Field(max_length=2000), AfterValidator(_notes)]
Place = Annotated[str, Field(max_length=253, min_length=1), AfterValidator(_place)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
User = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
MaxPods = Annotated[int, Field(strict=True, ge=0, le=10_000)]


class Creation(Request):
    """A machine that is expected: the first that registers under this hostname becomes this worker."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"hostname": "w7", "ipAddress": "192.0.2.17", "labels": {"zone": "a"}, "maxPods": 50}
            ]
        }
    )

    hostname: Hostname
    ip_address: Address
    name: Hostname | None = Field(None, description="Its name in the inventory; else the hostname.")
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS)] = Field({})
    notes: Notes | None = None
    ansible_host: Place | None = Field(None, description="Where SSH goes, if not to ipAddress.")
    ansible_port: Port | None = None
    ansible_user: User | None = None
    max_pods: MaxPods | None = Field(None, description="How many pods it may run; else Kubernetes' default.")

    def columns(self) -> dict[str, Any]:
        """Return the columns of the worker."""
        return {**self.model_dump(), "name": self.name or self.hostname}


class Change(Request):
    """What an operator decides of a worker: only the fields that are given change, null empties one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "big-one", "labels": {"zone": "b", "old": None}, "notes": None}]
        }
    )

    name: Hostname = Field("")
    labels: Annotated[dict[LabelKey, LabelValue | None], Field(max_length=MAX_LABELS)] = Field(
        {}, description="Labels to set; those with null are taken away, all others stay."
    )
    notes: Notes | None = None
    ansible_host: Place | None = None
    ansible_port: Port | None = None
    ansible_user: User | None = None
    max_pods: MaxPods | None = None

    def columns(self) -> dict[str, Any]:
        """Return the columns that are given, but for the labels."""
        return self.model_dump(include=self.model_fields_set - {"labels"})


class Rest(Request):
    """Why a worker rests, and until when."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"reason": "new disk", "until": "2030-01-31T18:00:00Z", "drain": True}]
        }
    )

    reason: Annotated[Text, Field(min_length=1)]
    until: Moment | None = Field(None, description="When it ends by itself; else when an operator says so.")
    drain: StrictBool = Field(
        False, description="The wish that its pods move away; noted, nothing drains yet."
    )
