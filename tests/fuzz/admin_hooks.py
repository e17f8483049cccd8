"""What makes an admin of the schema fuzzer: a login that is renewed, and a worker to look at and to change."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import httpx2
import schemathesis
from schemathesis.auths import AuthContext
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext

URL = os.environ["MUSTER_FUZZ_URL"]
ADMIN = os.environ["MUSTER_FUZZ_ADMIN"]
WORKER = os.environ["MUSTER_FUZZ_WORKER"]
newest = [os.environ["MUSTER_FUZZ_REFRESH_TOKEN"]]


@schemathesis.auth(refresh_interval=300)  # seconds: a third of what an access token lives
class Admin:
    """Exchanges the refresh token for the next."""

    def get(self, _case: Case, _context: AuthContext) -> str:
        answer = httpx2.post(f"{URL}/api/auth/refresh", json={"refreshToken": newest[-1]}, timeout=60)
        tokens = answer.raise_for_status().json()["data"]
        newest.append(tokens["refreshToken"])
        return str(tokens["accessToken"])

    def set(self, case: Case, data: str, _context: AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    """Ask for the worker that is there, where any is asked for; never remove it, or change who asks."""
    asked = case.path_parameters
    with suppress(ValueError):
        if case.method != "DELETE" and UUID(str(asked.get("worker_id"))):
            asked["worker_id"] = WORKER
    if case.method != "GET" and asked.get("user_id") == ADMIN:
        asked["user_id"] = str(uuid4())
    if case.method == "DELETE" and asked.get("worker_id") == WORKER:
        asked["worker_id"] = str(uuid4())
