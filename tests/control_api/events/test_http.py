"""The stream of events over real connections: it begins, goes on, and ends when it should."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from control_api.app import create_app
from control_api.events import http, hub
from control_api.identity.roles import Role
from tests.control_api.cli.test_serve import Service
from tests.control_api.events.test_hub import settled
from tests.control_api.events.test_tail import write
from tests.control_api.processes import crowding
from tests.control_api.world import Api, Clock, bearer, make_settings

PATIENCE = 10


class Stream:
    """What a client hears, event by event."""

    def __init__(self, response: httpx2.Response) -> None:
        self.lines = response.aiter_lines()

    async def next(self) -> dict[str, str]:
        """Return the fields of the next block."""
        block: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            async for line in self.lines:
                if not line and block:
                    return block
                if line:
                    name, _, value = line.partition(":")
                    block[name or "comment"] = value.strip()
        return {"end": "of stream"}


@pytest.fixture
async def live(database_url: str, clock: Clock) -> AsyncIterator[Api]:
    """The API behind a real server, without the monitor."""
    app = create_app(make_settings(database_url), clock=clock)
    service = app.app.state.service  # type: ignore[attr-defined]
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    app.start()
    service.events.start()
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        yield Api(client, service, clock)
    await service.events.close()
    server.should_exit = True
    await serving
    await app.close()
    service.database.close()


@asynccontextmanager
async def listening(live: Api, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    url = f"/api/events{query}"
    async with live.client.stream("GET", url, headers={**live.as_role(Role.VIEWER), **headers}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


async def test_a_client_is_told_where_it_stands_and_then_what_happens(live: Api) -> None:
    await settled(live.service.events, 0)
    async with listening(live) as stream:
        assert await stream.next() == {"retry": "3000"}
        assert await stream.next() == {"comment": "still here", "id": "0"}
        worker = await live.register()
        came = await stream.next()
        assert (came["event"], came["id"]) == ("worker.registered", "1")
        assert json.loads(came["data"]) == {
            "id": 1,
            "kind": "worker.registered",
            "at": live.clock().isoformat(),
            "workerId": worker["workerId"],
            "hostname": "w1",
            "name": "w1",
            "from": None,
            "to": "PENDING",
            "reason": "registered",
            "actor": "worker",
            "evidence": json.loads(came["data"])["evidence"],
        }
        await live.beat(worker)
        assert (await stream.next())["event"] == "worker.transition"
        gone = await live.client.delete(f"/api/workers/{worker['workerId']}", headers=live.admin())
        assert gone.status_code == 200
        assert (await stream.next())["event"] == "worker.removed"


async def test_a_client_that_comes_back_hears_what_it_missed(live: Api) -> None:
    for number in range(1, 6):
        write(live.service.database, str(number))
    await settled(live.service.events, 5)
    for query, headers in (
        ("", {"last-event-id": "3"}),
        ("?after=3", {}),
        ("?after=1", {"last-event-id": "3"}),
    ):
        async with listening(live, query, **headers) as stream:
            assert await stream.next() == {"retry": "3000"}
            assert [(await stream.next())["id"] for _ in range(2)] == ["4", "5"]


async def test_operators_maintenance_is_an_event_with_its_reason_and_actor(live: Api) -> None:
    worker = await live.register()
    await live.beat(worker)
    await settled(live.service.events, 2)
    async with listening(live, f"?worker={worker['workerId']}&kind=worker.transition") as stream:
        await stream.next()
        await stream.next()
        body = {"reason": "new disk"}
        path = f"/api/workers/{worker['workerId']}/maintenance"
        assert (await live.client.post(path, json=body, headers=live.admin())).status_code == 200
        told = json.loads((await stream.next())["data"])
        assert (told["to"], told["reason"], told["actor"]) == (
            "MAINTENANCE",
            "maintenance: new disk",
            "user:some-admin",
        )


async def test_silence_is_kept_alive_by_comments_that_carry_the_place(
    live: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.1)
    await settled(live.service.events, 0)
    async with listening(live, "?kind=worker.removed") as stream:
        await stream.next()
        write(live.service.database, "filtered out")
        while (said := await stream.next()).get("id") != "1":
            assert said == {"comment": "still here", "id": "0"}
        assert said == {"comment": "still here", "id": "1"}


async def test_a_stream_ends_when_its_token_expires(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.1)
    await settled(live.service.events, 0)
    async with listening(live) as stream:
        await stream.next()
        live.clock.advance(25 * 3600)
        while "event" not in (said := await stream.next()):
            pass
        assert said == {"event": "stream.ends", "data": '{"reason":"unauthorized"}'}
        assert await stream.next() == {"end": "of stream"}
    assert live.service.events.readers == 0


async def test_a_reader_that_leaves_frees_its_place(live: Api) -> None:
    async with listening(live) as stream:
        await stream.next()
        assert live.service.events.readers == 1
    async with asyncio.timeout(PATIENCE):
        while live.service.events.readers:  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.01)


async def test_more_streams_than_the_bound_get_503(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "READERS", 1)
    async with listening(live) as stream:
        await stream.next()
        answer = await live.client.get("/api/events", headers=live.admin())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "OVERLOADED")
        assert answer.headers["retry-after"] == "5"


async def test_a_client_that_takes_nothing_is_dropped_and_the_others_hear_everything(
    live: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SLOW", 0.3)
    database, events = live.service.database, live.service.events
    for _ in range(6):
        await asyncio.to_thread(_write_many, database, 500)
    await settled(events, 3000)
    deaf = socket.create_connection(("127.0.0.1", live.client.base_url.port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    token = live.admin()["Authorization"]
    deaf.sendall(f"GET /api/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    async with listening(live, "?after=2990") as stream:
        await stream.next()
        assert [(await stream.next())["id"] for _ in range(10)] == [
            str(number) for number in range(2991, 3001)
        ]
        async with asyncio.timeout(PATIENCE):
            while not events.dropped:  # noqa: ASYNC110 - there is nothing to wait on
                await asyncio.sleep(0.01)
        write(database, "after the drop")
        assert (await stream.next())["id"] == "3001"
        assert (events.dropped, events.readers) == (1, 1)
    deaf.close()


def _write_many(database: Any, count: int) -> None:
    from control_api.workers import history_store

    with database.transaction() as session:
        for _ in range(count):
            history_store.record_note(session, "big", evidence={"x": "y" * 5000}, now=Clock().now)


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("?after=-1", {}, "after"),
        ("?after=9223372036854775808", {}, "after"),
        ("?kind=everything", {}, "kind.0"),
        ("?worker=w1", {}, "worker"),
        ("", {"last-event-id": "abc"}, "last-event-id"),
    ],
)
async def test_nonsense_is_refused_by_the_field(
    sqlite_api: Api, query: str, headers: dict[str, str], field: str
) -> None:
    answer = await sqlite_api.client.get(f"/api/events{query}", headers={**sqlite_api.admin(), **headers})
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (422, field)


async def test_the_stream_is_for_those_who_are_known(sqlite_api: Api) -> None:
    assert (await sqlite_api.client.get("/api/events")).status_code == 401


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path).start()
    yield service
    if service.process is not None:
        service.stop(signal.SIGKILL)


def test_open_streams_do_not_delay_the_stop(installed: Service) -> None:
    login = {"username": "admin", "password": installed.secret("MUSTER_ADMIN_PASSWORD")}
    token = httpx2.post(f"{installed.url}/api/auth/login", json=login).json()["data"]["accessToken"]
    with httpx2.stream("GET", f"{installed.url}/api/events", headers=bearer(token)) as response:
        lines = response.iter_lines()
        assert next(lines) == "retry: 3000"
        begun = time.monotonic()
        installed.stop()
        assert time.monotonic() - begun < 5 * crowding()
        assert list(lines)[-3:] == ["event: stream.ends", 'data: {"reason":"shutdown"}', ""]
