"""Stopping a real service under load: what it has accepted is answered, what it has acknowledged is stored."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.control_api.processes import Service, crowding, wait_until
from tests.control_api.world import SETTINGS, bearer, registration


@pytest.fixture
def service(postgresql_url: str, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, **{**SETTINGS, "DATABASE_URL": postgresql_url}).start()
    yield service
    if service.process is not None:
        service.stop(signal.SIGKILL)


def waiting_for_a_lock(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        row = other.execute(query).fetchone()
    assert row is not None
    return int(str(row[0]))


def test_requests_that_were_accepted_before_sigterm_are_answered(
    service: Service, postgresql_url: str
) -> None:
    """All of them wait in the database when the signal comes, and go on only after it."""
    workers = [service.register(hostname=f"w{number}") for number in range(5)]
    with psycopg.connect(postgresql_url) as blocker, ThreadPoolExecutor(10) as pool:
        blocker.execute("LOCK TABLE heartbeats IN EXCLUSIVE MODE")
        asked = [pool.submit(service.beat, worker) for worker in workers]
        facts = [registration(hostname=f"new{number}") for number in range(5)]
        register = f"{service.url}/api/workers/register"
        asked += [pool.submit(httpx2.post, register, json=body, timeout=20) for body in facts]
        wait_until(lambda: waiting_for_a_lock(blocker) == 6, 3)  # one batch of heartbeats, five registrations
        service.kill(signal.SIGTERM)
        wait_until(lambda: "stopping" in service.events(), 5)
        blocker.commit()
        assert [answer.result().status_code for answer in asked] == [200] * 5 + [201] * 5
    assert service.stop() == -signal.SIGTERM
    with psycopg.connect(postgresql_url) as connection:
        assert connection.execute("SELECT count(*), count(received_at) FROM heartbeats").fetchall() == [
            (10, 5)
        ]


def test_a_request_that_the_database_never_answers_delays_a_stop_for_a_bounded_time(
    service: Service, postgresql_url: str
) -> None:
    worker = service.register()
    with psycopg.connect(postgresql_url) as blocker, ThreadPoolExecutor(1) as pool:
        blocker.execute("LOCK TABLE heartbeats IN EXCLUSIVE MODE")
        asked = pool.submit(service.beat, worker)
        wait_until(lambda: waiting_for_a_lock(blocker) >= 1, 3)
        began = time.monotonic()
        assert service.stop() == -signal.SIGTERM
        assert time.monotonic() - began < 12 * crowding()
        answer = asked.result()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_open_streams_of_events_do_not_delay_a_stop(service: Service) -> None:
    url, headers = f"{service.url}/api/events", service.admin()
    opened = threading.Barrier(6)

    def listen(_: int) -> int:
        with httpx2.stream("GET", url, headers=headers, timeout=20) as stream:
            opened.wait(10)
            for _part in stream.iter_bytes():
                pass
            return stream.status_code

    with ThreadPoolExecutor(5) as pool:
        streams = pool.map(listen, range(5))
        opened.wait(10)
        began = time.monotonic()
        assert service.stop() == -signal.SIGTERM
        assert time.monotonic() - began < 5 * crowding()
        assert list(streams) == [200] * 5  # ended in order, not torn


def test_a_killed_service_has_stored_all_that_it_acknowledged(service: Service, postgresql_url: str) -> None:
    worker = service.register()
    acknowledged = 0
    boot_id = "3f0b7a52-5f0c-4b52-9c58-0d6a1f6f3c11"
    with httpx2.Client(base_url=service.url, headers=bearer(worker["credential"])) as client:
        try:
            for seq in range(1, 100_000):
                report = {"bootId": boot_id, "seq": seq}
                if client.patch(worker["heartbeat"]["url"], json=report).status_code == 200:
                    acknowledged = seq
                if seq == 50:
                    service.kill(signal.SIGKILL)
        except httpx2.HTTPError:
            pass
    assert acknowledged >= 50
    with psycopg.connect(postgresql_url) as connection:
        [(stored,)] = connection.execute("SELECT seq FROM heartbeats").fetchall()
    assert stored >= acknowledged
