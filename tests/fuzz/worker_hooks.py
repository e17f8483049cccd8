"""What makes a worker of the schema fuzzer: its credential, always the newest one, and the token of a registration."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any
from uuid import UUID

import schemathesis
from schemathesis.auths import AuthContext
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext

OWN = os.environ["MUSTER_FUZZ_WORKER"]
TOKEN = os.environ["MUSTER_FUZZ_TOKEN"]
REGISTER = "POST /api/workers/register"
newest = [os.environ["MUSTER_FUZZ_CREDENTIAL"]]


@schemathesis.auth(refresh_interval=None)
class Worker:
    """Shows the newest credential."""

    def get(self, _case: Case, _context: AuthContext) -> str:
        return newest[-1]

    def set(self, case: Case, data: str, _context: AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    """Ask for this worker where any is asked for, and give a registration with a token one that is good."""
    if _is_uuid(case.path_parameters.get("worker_id")):
        case.path_parameters["worker_id"] = OWN
    body = case.body
    if (
        case.operation.label == REGISTER
        and isinstance(body, dict)
        and _is_token(body.get("registrationToken"))
    ):
        body["registrationToken"] = TOKEN
        case.headers.pop("Authorization", None)  # it would win over the token


@schemathesis.hook
def after_call(_context: HookContext, case: Case, response: Response) -> None:
    """Keep the credential that an answer brings; the one before is dead."""
    with suppress(ValueError, TypeError, KeyError):
        data = response.json()["data"]
        if data.get("workerId", OWN) == OWN and data["credential"]:
            newest.append(data["credential"])


def _is_uuid(value: object) -> bool:
    try:
        return bool(UUID(str(value)))
    except ValueError:
        return False


def _is_token(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 512
