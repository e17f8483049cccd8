"""A real service on a PostgreSQL of its own that is stopped, frozen, killed: what clients get, and what survives."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest

from tests.control_api.processes import PATIENCE, Service, crowding, wait_until
from tests.control_api.servers import PostgreSQL, start_postgresql
from tests.control_api.world import PASSWORD, SETTINGS, bearer, make_settings, registration, running_api

BOUND = 10.0  # seconds within which everyone is answered; see docs/failure-behaviour.md
NEEDS_NO_DATABASE = {"/healthz", "/api/docs", "/api/openapi.json"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    server = start_postgresql()
    server.admin("CREATE DATABASE {}", "muster")
    yield server
    server.destroy()


@pytest.fixture(scope="module")
def service(server: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    service = Service(directory, **{**SETTINGS, "DATABASE_URL": server.url("muster")})
    upgraded = service.run("db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    service.start()
    yield service
    if service.process is not None:
        service.stop(signal.SIGKILL)


@pytest.fixture
def worker(service: Service) -> dict[str, Any]:
    return service.register(hostname="steady", machineId="5" * 32)


def requests(service: Service, worker: dict[str, Any], admin: dict[str, str]) -> list[dict[str, Any]]:
    """Return a request of every kind: all that OpenAPI reads with, and what matters of the rest."""
    spec = httpx2.get(f"{service.url}/api/openapi.json").json()
    reads = [path for path, operations in spec["paths"].items() if "get" in operations]
    own = bearer(worker["credential"])
    return [
        {"method": "POST", "url": "/api/auth/login", "json": {"username": "admin", "password": PASSWORD}},
        {"method": "POST", "url": "/api/workers/register", "json": registration(hostname="late")},
        {"method": "PATCH", "url": worker["heartbeat"]["url"], "json": {}, "headers": own},
        {"method": "POST", "url": f"/api/workers/{worker['workerId']}/leave", "headers": own},
        *(
            {"method": "GET", "url": re.sub(r"\{\w+\}", str(UUID(int=1)), path), "headers": admin}
            for path in reads
            if path.startswith("/api/") and path not in NEEDS_NO_DATABASE
        ),
    ]


def ask(service: Service, request: dict[str, Any]) -> tuple[str, int, str | None, bool]:
    """Return what was asked, the status, Retry-After, and whether it took longer than allowed."""
    began = time.monotonic()
    with httpx2.stream(
        **{**request, "url": f"{service.url}{request['url']}"}, timeout=BOUND + PATIENCE
    ) as answer:  # a stream: some answers never end
        late = time.monotonic() - began > BOUND * crowding()
        return request["url"], answer.status_code, answer.headers.get("retry-after"), late


def refused(asked: list[dict[str, Any]]) -> list[tuple[str, int, str | None, bool]]:
    return [(request["url"], 503, "5", False) for request in asked]


def unready(service: Service) -> tuple[int, bool, bool]:
    answer = httpx2.get(f"{service.url}/readyz", timeout=BOUND + PATIENCE)
    return answer.status_code, answer.json()["ready"], answer.json()["database"]


def test_everything_answers_503_while_postgresql_is_down_and_works_again_without_a_restart(
    service: Service, server: PostgreSQL, worker: dict[str, Any]
) -> None:
    asked = requests(service, worker, service.admin())
    server.stop("immediate")
    try:
        assert [ask(service, request) for request in asked] == refused(asked)
        assert unready(service) == (503, False, False)
        assert httpx2.get(f"{service.url}/healthz").status_code == 200
    finally:
        server.start()
    wait_until(lambda: service.ready()["ready"], 5)
    assert service.beat(worker).status_code == 200
    assert service.workers()["steady"] == "ACTIVE"


def test_prometheus_reads_on_while_postgresql_is_down(
    service: Service, server: PostgreSQL, worker: dict[str, Any]
) -> None:
    """It was let in before; who was not cannot be looked up now."""
    known, other = service.admin(), service.admin()
    assert "muster_database_up 1.0" in metrics(service, known).text
    server.stop("immediate")
    try:
        assert service.beat(worker).status_code == 503
        assert metrics(service, other).status_code == 503
        said = metrics(service, known).text.splitlines()
        assert "muster_database_up 0.0" in said
        assert not [line for line in said if line.startswith("muster_workers{")]  # none, rather than old ones
        refused = [line for line in said if 'refused_total{reason="DATABASE_UNAVAILABLE"}' in line]
        assert float(refused[0].split()[-1]) >= 1
    finally:
        server.start()
    wait_until(lambda: service.ready()["ready"], 10)
    assert "muster_database_up 1.0" in metrics(service, known).text


def metrics(service: Service, headers: dict[str, str]) -> httpx2.Response:
    return httpx2.get(f"{service.url}/metrics", headers=headers, timeout=BOUND + PATIENCE)


def test_everything_answers_503_in_bounded_time_while_postgresql_is_frozen(
    service: Service, server: PostgreSQL, worker: dict[str, Any]
) -> None:
    """Nothing is refused by the network here: the server takes connections and never says a word."""
    asked = requests(service, worker, service.admin())
    server.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(60) as pool:  # more than there are connections and threads in the service
            crowd = [*asked, *asked, *asked, *asked]
            assert list(pool.map(lambda request: ask(service, request), crowd)) == refused(crowd)
        began = time.monotonic()
        assert ask(service, asked[0]) == refused(asked)[0]
        assert unready(service) == (503, False, False)
        assert time.monotonic() - began < BOUND * crowding()
    finally:
        server.signal(signal.SIGCONT)
    wait_until(lambda: service.ready()["ready"], 10)
    assert service.beat(worker).status_code == 200
    assert service.workers()["steady"] == "ACTIVE"


def test_what_was_acknowledged_survives_a_crash_of_postgresql_under_load(
    service: Service, server: PostgreSQL
) -> None:
    load = Load(service)
    with ThreadPoolExecutor(load.WORKERS) as pool:
        beating = [pool.submit(load.run, number) for number in range(load.WORKERS)]
        wait_until(lambda: load.total() > 300, 30)
        server.crash()
        server.start()
        before = load.total()
        wait_until(lambda: load.total() > before + 100, 30)
        load.over.set()
        for beater in beating:
            beater.result()
    assert load.refused > 0  # the crash was seen
    assert load.strange == []
    with psycopg.connect(server.url("muster")) as connection:
        rows = connection.execute("SELECT worker_id, boot_id, seq FROM heartbeats").fetchall()
    stored = {str(worker_id): (str(boot_id), seq) for worker_id, boot_id, seq in rows}
    assert set(load.acknowledged) <= set(stored)
    for worker_id, (boot_id, seq) in load.acknowledged.items():
        assert stored[worker_id][0] == boot_id
        assert stored[worker_id][1] >= seq


class Load:
    """Workers that register and beat, and note what they were told is stored."""

    WORKERS = 12

    def __init__(self, service: Service) -> None:
        self.service = service
        self.acknowledged: dict[str, tuple[str, int]] = {}
        self.over = threading.Event()
        self.refused = 0
        self.strange: list[str] = []

    def total(self) -> int:
        return sum(seq for _, seq in dict(self.acknowledged).values())

    def run(self, number: int) -> None:
        with httpx2.Client(base_url=self.service.url, timeout=30) as client:
            generation = 0
            while not self.over.is_set():
                generation += 1
                facts = registration(hostname=f"load-{number}-{generation}", machineId=uuid4().hex)
                if not self.over.is_set() and (
                    worker := self._sent(client, "POST", "/api/workers/register", facts)
                ):
                    self._beat(client, worker)

    def _beat(self, client: httpx2.Client, worker: dict[str, Any]) -> None:
        boot_id = str(uuid4())
        for seq in range(1, 50):
            if self.over.is_set():
                return
            report = {"bootId": boot_id, "seq": seq}
            headers = bearer(worker["credential"])
            if self._sent(client, "PATCH", worker["heartbeat"]["url"], report, headers) is not None:
                self.acknowledged[worker["workerId"]] = (boot_id, seq)

    def _sent(
        self, client: httpx2.Client, method: str, url: str, body: Any, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        answer = client.request(method, url, json=body, headers=headers)
        if answer.status_code in {200, 201}:
            return dict(answer.json()["data"])
        if answer.status_code == 503 and answer.headers["retry-after"] == "5":
            self.refused += 1
            self.over.wait(0.05)
        else:
            self.strange.append(answer.text)
        return None


async def test_a_pool_without_a_free_connection_answers_503(postgresql_url: str, clock: Any) -> None:
    async with running_api(make_settings(postgresql_url), clock) as api:
        headers = api.admin()
        with ExitStack() as held:
            for _ in range(20):
                held.enter_context(api.service.database.engine.connect())
            answer = await api.client.get("/api/workers", headers=headers)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await api.client.get("/api/workers", headers=headers)).status_code == 200


async def test_a_full_disk_answers_503_and_works_again_when_there_is_room(
    sqlite_url: str, clock: Any
) -> None:
    """SQLite itself refuses to grow the file, with the error that a full disk gives."""
    async with running_api(make_settings(sqlite_url), clock) as api:
        worker = await api.register(machineId="1" * 32)
        with api.service.database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit_pages(api.service.database, pages)
        answers = []
        while not answers or answers[-1].status_code == 201:
            body = registration(hostname=f"x{len(answers)}", machineId=uuid4().hex, cpuModel="x" * 200)
            answers.append(await api.client.post("/api/workers/register", json=body))
            assert len(answers) < 1000
        assert (answers[-1].status_code, answers[-1].headers["retry-after"]) == (503, "5")
        assert len((await api.get("/api/workers"))["workers"]) == len(answers)  # reading goes on
        limit_pages(api.service.database, 1_000_000)
        again = await api.client.post("/api/workers/register", json=body)
        assert again.status_code == 201
        assert (await api.beat(worker)).status_code == 200


def limit_pages(database: Any, pages: int) -> None:
    """Let the file have at most so many pages, on this and every later connection."""
    from sqlalchemy import event

    database.engine.dispose()

    @event.listens_for(database.engine, "connect")
    def _limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")
