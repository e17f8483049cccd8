"""`muster serve` as a process: started in an empty directory, stopped, killed, started again."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fastapi.routing
import httpx2
import pytest

from control_api import logs, serving
from control_api.cli.serve import serve
from control_api.workers.heartbeats import Heartbeats
from tests.control_api.processes import Service, crowding, free_port
from tests.control_api.servers import PostgreSQL
from tests.control_api.world import HEAD, PASSWORD, SETTINGS, TOKEN, bearer, registration


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(**environment: str) -> Service:
        made.append(Service(tmp_path, **environment))
        return made[-1]

    yield make
    for service in made:
        if service.process is not None:
            service.stop(signal.SIGKILL)


def test_it_serves_from_an_empty_directory(install: Callable[..., Service]) -> None:
    service = install().start()
    token, password = service.secret("WORKER_REGISTRATION_TOKEN"), service.secret("MUSTER_ADMIN_PASSWORD")
    assert service.log.count(token) == service.log.count(password) == 1  # shown once
    worker = service.register(machineId="a" * 32)
    assert service.beat(worker).json()["data"] == {"nextInSeconds": 30, "status": "ACTIVE"}
    assert service.workers() == {"w1": "ACTIVE"}
    assert httpx2.get(f"{service.url}/readyz").json() == {
        "ready": True,
        "database": True,
        "monitor": True,
        "degraded": [],
    }
    refused = service.run("serve", PORT=str(free_port()))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("Another control API uses this SQLite file")

    began = time.monotonic()
    assert service.stop() == -signal.SIGTERM  # the way to end that systemd calls clean
    assert time.monotonic() - began < 5 * crowding()
    lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    assert {"ready", "worker registered", "login", "stopping"} <= {line["event"] for line in lines}
    assert all("timestamp" in line and "level" in line for line in lines)
    said_later = "".join(json.dumps(line) for line in lines)
    for secret in (token, password, worker["credential"], service.secret("JWT_SECRET")):
        assert secret not in said_later

    service.start()
    assert token not in service.log  # not shown again
    again = service.register(machineId="a" * 32)
    assert (again["workerId"], again["isRestart"]) == (worker["workerId"], True)


async def test_no_request_waits_for_routes_that_are_made_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    made = fastapi.routing.get_dependant
    monkeypatch.setattr(fastapi.routing, "get_dependant", lambda **what: asked.append(what) or made(**what))
    served: list[Heartbeats] = []
    monkeypatch.setattr(serving, "run", lambda app, *_, **__: served.append(app))
    monkeypatch.setattr(logs, "configure", lambda: None)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    serve(host=None, port=None)
    before = len(asked)
    transport = httpx2.ASGITransport(served[0])
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        statuses = [
            (await client.request(method, path)).status_code
            for method, path in (("GET", "/api/workers"), ("PATCH", "/api/workers"), ("GET", "/nowhere"))
        ]
    served[0].app.state.service.database.close()
    assert statuses == [401, 405, 404]
    assert len(asked) == before > 50


def test_a_restart_after_an_outage_marks_nobody_inactive_and_silence_is_seen_again(
    install: Callable[..., Service],
) -> None:
    """In real time, with a timeout of three seconds."""
    service = install(HEARTBEAT_TIMEOUT_MINUTES="0.05").start()
    lives, dies = service.register(hostname="lives"), service.register(hostname="dies")
    for worker in (lives, dies):
        assert service.beat(worker).json()["data"]["nextInSeconds"] == 1
    service.stop(signal.SIGKILL)
    time.sleep(4)
    service.start()
    assert service.workers() == {"lives": "ACTIVE", "dies": "ACTIVE"}
    began = time.monotonic()
    while service.workers()["dies"] == "ACTIVE":
        assert service.beat(lives).status_code == 200
        assert time.monotonic() - began < 10 * crowding()
        time.sleep(0.2)
    assert service.workers() == {"lives": "ACTIVE", "dies": "INACTIVE"}
    assert service.beat(dies).json()["data"]["status"] == "ACTIVE"
    assert service.workers() == {"lives": "ACTIVE", "dies": "ACTIVE"}


def test_systemd_is_told_how_it_is(install: Callable[..., Service], tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        channel.settimeout(20)
        service = install(NOTIFY_SOCKET=path).start()
        told = [channel.recv(100).decode() for _ in range(2)]
        assert told == ["WATCHDOG=1", "READY=1"]
        assert httpx2.get(f"{service.url}/healthz").status_code == 200
        service.stop()
        while told[-1] != "STOPPING=1":
            told.append(channel.recv(100).decode())


def test_a_port_in_use_is_one_sentence(install: Callable[..., Service]) -> None:
    service = install()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", service.port))
        taken.listen()
        done = service.run("serve")
    sentence = f"The service cannot listen on 127.0.0.1:{service.port}: Address already in use."
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, sentence)
    assert "Traceback" not in done.stderr


def test_a_missing_secret_is_one_sentence(install: Callable[..., Service]) -> None:
    done = install(DATABASE_URL="postgresql://u@127.0.0.1:1/d").run("serve")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "WORKER_REGISTRATION_TOKEN is missing" in done.stderr


def test_a_database_that_is_away_is_one_sentence(install: Callable[..., Service]) -> None:
    done = install(DATABASE_URL="postgresql://u@127.0.0.1:1/d").run("db", "check")
    sentence = "The database does not answer; try again in a few seconds."
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (1, "", [sentence])


def test_on_postgresql_the_schema_is_brought_up_by_its_own_command(
    install: Callable[..., Service], postgresql: PostgreSQL
) -> None:
    postgresql.admin("CREATE DATABASE {}", "served")
    service = install(**{**SETTINGS, "DATABASE_URL": postgresql.url("served")})
    early = service.run("serve")
    assert (early.returncode, early.stderr.splitlines()) == (
        1,
        [f"The schema is at nothing, this version needs {HEAD}; run `muster db upgrade`."],
    )
    checked = service.run("db", "check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (1, "", early.stderr)
    assert service.run("db", "upgrade").stdout == f"The schema went from nothing to {HEAD}.\n"
    checked = service.run("db", "check")
    assert (checked.returncode, checked.stdout) == (
        0,
        f"The schema is at {HEAD}, as this version needs it.\n",
    )
    assert service.run("db", "upgrade").stdout == f"The schema is at {HEAD}.\n"
    service.start()
    assert not (service.directory / "muster").exists()  # nothing was generated
    answer = httpx2.post(f"{service.url}/api/workers/register", json=registration(registrationToken=TOKEN))
    assert answer.status_code == 201
    listed = service.run(
        "workers", "list", "--json", MUSTER_URL=service.url, MUSTER_USERNAME="admin", MUSTER_PASSWORD=PASSWORD
    )
    assert [worker["hostname"] for worker in json.loads(listed.stdout)] == ["w1"]
    service.stop()
    postgresql.admin("DROP DATABASE {}", "served")


def test_many_heartbeats_over_kept_connections_survive_a_stop(install: Callable[..., Service]) -> None:
    """Whatever was acknowledged before the stop is stored after it."""
    service = install().start()
    worker = service.register()
    url, headers = f"{service.url}{worker['heartbeat']['url']}", bearer(worker["credential"])
    with httpx2.Client(headers=headers) as client:
        acknowledged = 0
        for number in range(1, 200):
            report = {"bootId": "3f0b7a52-5f0c-4b52-9c58-0d6a1f6f3c11", "seq": number}
            try:
                if client.patch(url, json=report).status_code != 200:
                    break
            except httpx2.HTTPError:
                break
            acknowledged = number
            if number == 100:
                assert service.process is not None
                service.process.terminate()
    assert acknowledged >= 100
    assert service.stop() == -signal.SIGTERM
    service.start()
    report = {"bootId": "3f0b7a52-5f0c-4b52-9c58-0d6a1f6f3c11", "seq": acknowledged}
    assert httpx2.patch(url, json=report, headers=headers).status_code == 409
    report["seq"] = acknowledged + 1
    assert httpx2.patch(url, json=report, headers=headers).status_code in {200, 409}
