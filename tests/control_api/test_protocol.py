"""Heartbeats over real connections: the short way answers as ASGI does, whatever a client makes of HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import uvicorn
from sqlalchemy import select

from control_api.app import create_app
from control_api.protocol import Exchange, Protocol
from control_api.workers.beat_store import Beat, Outcome
from control_api.workers.heartbeats import Heartbeats
from control_api.workers.models import Heartbeat
from tests.control_api.world import Api, Clock, make_settings

PATIENCE = 10
GUARDS = ("content-security-policy", "x-content-type-options", "referrer-policy", "cache-control")


@dataclass
class Served:
    """The API behind uvicorn, a registered worker, and a connection to write on."""

    api: Api
    app: Heartbeats
    server: uvicorn.Server
    port: int
    worker: dict[str, Any]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()

    def heartbeat(self, body: str = "{}", *headers: str, version: str = "1.1", **changes: str) -> bytes:
        credential = changes.get("credential", self.worker["credential"])
        lines = [
            f"PATCH {changes.get('path', self.worker['heartbeat']['url'])} HTTP/{version}",
            "Host: muster",
            f"Authorization: Bearer {credential}",
            "Content-Type: application/json",
            *(headers or [f"Content-Length: {len(body)}"]),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def pods(self) -> int | None:
        with self.api.service.database.reading() as session:
            return session.scalar(select(Heartbeat.current_pods))


@dataclass
class Connection:
    """Bytes out, answers in."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)

    async def ended(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read() == b""


@pytest.fixture
async def served(sqlite_url: str, clock: Clock) -> AsyncIterator[Served]:
    app = create_app(make_settings(sqlite_url), clock=clock)
    service = app.app.state.service  # type: ignore[attr-defined]
    config = uvicorn.Config(
        app,
        port=0,
        http=Protocol,
        log_level="error",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    app.start()
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        api = Api(client, service, clock)
        yield Served(api, app, server, port, await api.register())
    server.should_exit = True
    await serving
    await app.close()
    service.database.close()


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers whose heartbeats went the short way."""
    seen: list[str] = []
    begin = Exchange.__init__

    def noted(self: Exchange, connection: Protocol, worker: str) -> None:
        seen.append(worker)
        begin(self, connection, worker)

    monkeypatch.setattr(Exchange, "__init__", noted)
    return seen


async def test_a_heartbeat_goes_the_short_way_and_is_stored(served: Served, exchanges: list[str]) -> None:
    async with served.connection() as connection:
        for pods in (1, 2):
            connection.send(served.heartbeat(f'{{"currentPods": {pods}}}'))
            status, headers, body = await connection.answer()
            assert (status, body["data"]["nextInSeconds"]) == (200, 30)
            assert {"date", "content-type", "content-length", "x-request-id", *GUARDS} == set(headers)
            assert served.pods() == pods
    assert exchanges == [served.worker["workerId"]] * 2


async def test_whatever_is_refused_is_refused_the_same_way_as_over_asgi(
    served: Served, exchanges: list[str]
) -> None:
    other = served.worker["workerId"][::-1]
    transport = httpx2.ASGITransport(app=served.app, client=("127.0.0.1", 1))
    for body, changes in (
        ("{", {}),
        ('{"cpuUsage": 101}', {}),
        (" " * 65_537, {}),
        ("{}", {"credential": "nobody"}),
        ("{}", {"path": f"/api/workers/{other}/heartbeat"}),
    ):
        async with served.connection() as connection:
            connection.send(served.heartbeat(body, **changes))
            status, headers, answer = await connection.answer()
        async with httpx2.AsyncClient(transport=transport, base_url="http://muster") as client:
            credential = changes.get("credential", served.worker["credential"])
            told = await client.patch(
                changes.get("path", served.worker["heartbeat"]["url"]),
                content=body,
                headers={"Authorization": f"Bearer {credential}"},
            )
        assert (status, answer) == (told.status_code, told.json())
        assert status >= 400
        assert headers.get("www-authenticate") == told.headers.get("www-authenticate")
    assert len(exchanges) == 5


@pytest.mark.parametrize("credential", [None, "forged"])
async def test_the_answer_to_a_heartbeat_carries_what_every_answer_carries(
    served: Served, credential: str | None
) -> None:
    given, credential = "X-Request-Id: abc-123", credential or served.worker["credential"]
    transport = httpx2.ASGITransport(app=served.app, client=("127.0.0.1", 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://muster") as over_asgi:
        every = dict((await over_asgi.get("/healthz", headers={"X-Request-Id": "abc-123"})).headers)
        authorization = {"Authorization": f"Bearer {credential}", "X-Request-Id": "abc-123"}
        told = await over_asgi.patch(served.worker["heartbeat"]["url"], headers=authorization)
    async with served.connection() as connection:
        connection.send(served.heartbeat("{}", given, "Content-Length: 2", credential=credential))
        status, headers, _ = await connection.answer()
    assert status == told.status_code == (401 if credential == "forged" else 200)
    wanted = {name: every[name] for name in (*GUARDS, "x-request-id")}
    assert {name: headers[name] for name in wanted} == {name: told.headers[name] for name in wanted} == wanted
    assert every["x-request-id"] == "abc-123"


async def test_every_heartbeat_has_an_id_of_its_own_unless_it_brings_a_fit_one(served: Served) -> None:
    seen = []
    async with served.connection() as connection:
        for given in ("X-Other: 1", "X-Other: 2", "X-Request-Id: evil value", f"X-Request-Id: {'x' * 65}"):
            connection.send(served.heartbeat("{}", given, "Content-Length: 2"))
            seen.append((await connection.answer())[1]["x-request-id"])
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in seen)
    assert len(set(seen)) == 4


async def test_a_refused_heartbeat_is_noted_with_the_address_that_it_came_from(served: Served) -> None:
    proxied = "X-Forwarded-For: 198.51.100.7"
    for given in ("X-Other: 1", proxied):
        async with served.connection() as connection:
            connection.send(served.heartbeat("{}", given, "Content-Length: 2", credential="forged"))
            assert (await connection.answer())[0] == 401
    async with asyncio.timeout(PATIENCE):
        while len(entries := (await served.api.get("/api/audit?action=worker.heartbeat"))["entries"]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert [entry["peer"] for entry in entries] == ["198.51.100.7", "127.0.0.1"]


async def test_a_heartbeat_that_comes_in_pieces_is_taken_whole(served: Served, exchanges: list[str]) -> None:
    async with served.connection() as connection:
        for byte in served.heartbeat('{"currentPods": 7}'):
            connection.send(bytes([byte]))
            await connection.writer.drain()
            await asyncio.sleep(0)
        assert (await connection.answer())[0] == 200
    assert (served.pods(), len(exchanges)) == (7, 1)


async def test_a_chunked_body_is_taken(served: Served) -> None:
    body = '{"currentPods": 9}'
    async with served.connection() as connection:
        connection.send(
            served.heartbeat(f"{len(body):x}\r\n{body}\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
        )
        assert (await connection.answer())[0] == 200
    assert served.pods() == 9


async def test_requests_that_are_sent_ahead_are_answered_in_their_order(served: Served) -> None:
    async with served.connection() as connection:
        health = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n"
        connection.send(served.heartbeat('{"currentPods": 1}') + health + served.heartbeat("{") + health)
        answers = [await connection.answer() for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 422, 200]
    assert "nextInSeconds" in answers[0][2]["data"]


async def test_a_client_that_asks_for_the_end_of_its_connection_gets_it(served: Served) -> None:
    async with served.connection() as connection:
        connection.send(served.heartbeat("{}", "Connection: close", "Content-Length: 2"))
        status, headers, _ = await connection.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.ended()


@pytest.mark.parametrize(
    "request_of",
    [
        lambda served: served.heartbeat(version="1.0"),
        lambda served: served.heartbeat("{}", "Expect: 100-continue", "Content-Length: 2"),
        lambda served: served.heartbeat(path=served.worker["heartbeat"]["url"] + "?again=1"),
    ],
    ids=["HTTP/1.0", "Expect", "query"],
)
async def test_what_is_rare_goes_through_asgi(
    served: Served, exchanges: list[str], request_of: Callable[[Served], bytes]
) -> None:
    async with served.connection() as connection:
        connection.send(request_of(served))
        head = await connection.reader.readline()
        if b"100" in head:
            await connection.reader.readuntil(b"\r\n")
            head = await connection.reader.readline()
        assert b" 200 " in head
    assert exchanges == []


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_forgotten(served: Served) -> None:
    async with served.connection() as connection:
        connection.send(served.heartbeat("{", "Content-Length: 2"))
        await connection.writer.drain()
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    assert served.server.server_state.tasks == set()
    assert (await served.api.beat(served.worker, currentPods=4)).status_code == 200
    assert served.pods() == 4


async def test_a_heartbeat_whose_client_has_gone_is_stored(served: Served) -> None:
    async with served.connection() as connection:
        connection.send(served.heartbeat('{"currentPods": 5}'))
        await connection.writer.drain()
    async with asyncio.timeout(PATIENCE):
        while served.pods() != 5:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_fault_in_taking_a_heartbeat_is_an_answer_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    refused: list[Exception] = []
    monkeypatch.setattr(served.app, "_authenticate", fail)
    monkeypatch.setattr(served.app, "_refused", refused.append)
    async with served.connection() as connection:
        connection.send(served.heartbeat())
        status, _, body = await connection.answer()
    assert (status, body["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert [type(each).__name__ for each in refused] == ["InternalError"]


async def test_a_stop_answers_the_heartbeat_under_way_and_ends_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    write = served.app._store.write

    async def slow(beats: Sequence[Beat]) -> list[Outcome]:
        begun.set()
        await go.wait()
        return await write(beats)

    monkeypatch.setattr(served.app._beats, "_write", slow)
    async with served.connection() as connection:
        connection.send(served.heartbeat('{"currentPods": 6}'))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
        served.server.should_exit = True
        await asyncio.sleep(0.3)
        go.set()
        status, headers, _ = await connection.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.ended()
    assert served.pods() == 6
