"""The world of the tests: a clock that they set, settings, machines that register, the API over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from control_api import migrations
from control_api.app import create_app
from control_api.cluster.kubernetes import Cluster
from control_api.errors import DatabaseUnavailable
from control_api.identity import store as identity_store
from control_api.identity.roles import Role
from control_api.service import Service
from control_api.settings import Settings

Answer = TypeVar("Answer")
HEAD = max(path.name[:4] for path in Path(migrations.__file__).parent.glob("versions/[0-9]*.py"))
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TOKEN = "registration-token-of-the-tests"
PASSWORD = "correct-horse-battery"
INVENTORY_KEY = "inventory-key-of-the-tests"
SETTINGS = {
    "JWT_SECRET": "jwt-0123456789-0123456789-0123456789",
    "JWT_REFRESH_SECRET": "refresh-0123456789-0123456789-01234",
    "WORKER_REGISTRATION_TOKEN": TOKEN,
    "WORKER_AUTH_SECRET": "worker-0123456789-0123456789-012345",
    "MUSTER_ADMIN_PASSWORD": PASSWORD,
    "MUSTER_INVENTORY_KEY": INVENTORY_KEY,
    "K3S_MASTER_URL": "https://192.0.2.1:6443",
}


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = START
        self.seconds = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as NTP does: no time passes."""
        self.now += timedelta(seconds=seconds)


def make_settings(url: str, **changes: Any) -> Settings:
    return Settings(**{**SETTINGS, "DATABASE_URL": url, **changes})


@dataclass
class Api:
    """The whole application, without its background threads: the test looks and ticks by itself."""

    client: httpx2.AsyncClient
    service: Service
    clock: Clock

    async def register(self, **facts: Any) -> dict[str, Any]:
        """Register a machine and return the answer's data."""
        answer = await self.client.post("/api/workers/register", json=registration(**facts))
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json()["data"])

    async def beat(self, registered: dict[str, Any], **report: Any) -> httpx2.Response:
        """Send a heartbeat as the worker that `register` returned."""
        headers = bearer(registered["credential"])
        return await self.client.patch(registered["heartbeat"]["url"], json=report, headers=headers)

    async def token(self, name: str = "rack-7", **wanted: Any) -> dict[str, Any]:
        """Make an enrolment token and return it, with its secret as `token`."""
        path, headers = "/api/enrolment-tokens", self.admin()
        answer = await self.client.post(path, json={"name": name, **wanted}, headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json()["data"])

    async def get(self, path: str) -> Any:
        """Return the data that an administrator gets from there."""
        answer = await self.client.get(path, headers=self.admin())
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def admin(self) -> dict[str, str]:
        """Return the headers of an administrator."""
        return self.as_role(Role.ADMIN)

    def as_role(self, role: Role) -> dict[str, str]:
        """Return the headers of somebody with this role."""
        return bearer(self.access_token(role))

    def access_token(self, role: Role) -> str:
        """Return an access token of somebody with this role, who is made when first asked for."""
        with self.service.database.transaction() as session:
            name = f"some-{role.value}"
            user = identity_store.by_name(session, name) or identity_store.add_once(
                session, name, "no password at all", role, self.clock()
            )
            assert user is not None
            return self.service.logins.begin(session, user, peer=None, now=self.clock()).access


def registration(**facts: Any) -> dict[str, Any]:
    body = {"hostname": "w1", "ipAddress": "192.0.2.11", "cpuCores": 8, "registrationToken": TOKEN, **facts}
    return {name: value for name, value in body.items() if value is not None}


def patiently(attempt: Callable[[], Answer]) -> Answer:
    """Return what the attempt returns; who finds no free connection in time tries again, as an agent does."""
    for _ in range(20):
        with suppress(DatabaseUnavailable):
            return attempt()
    return attempt()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def running_api(
    settings: Settings, clock: Clock, cluster: Cluster | None = None, peer: str = "127.0.0.1"
) -> AsyncIterator[Api]:
    app = create_app(settings, clock=clock, cluster=cluster)
    service: Service = app.app.state.service  # type: ignore[attr-defined]
    app.start()
    service.events.start()
    async with asyncio.timeout(30):
        while service.events.settled is None:  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.005)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False, client=(peer, 50000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://muster") as client:
        yield Api(client, service, clock)
    await service.events.close()
    await app.close()
    service.monitor.stop()  # a test that let it look has made it the leader, with a connection of its own
    service.database.close()
