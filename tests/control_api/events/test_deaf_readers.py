"""Readers of events that take nothing, on a real service: they are dropped, and nobody else notices them."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import pytest

from control_api.db import Database
from control_api.events.http import SLOW
from control_api.workers import history_store
from tests.control_api.processes import PATIENCE, Service, crowding, wait_until
from tests.control_api.world import START

DEAF = 10
EVENTS, SIZE = 4000, 5000  # 20 MB: more than the kernel keeps for a connection


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path).start()
    yield service
    if service.process is not None:
        service.stop(signal.SIGKILL)


def write_events(service: Service) -> None:
    database = Database(f"sqlite:///{service.directory / 'muster/muster.db'}")
    for _ in range(EVENTS // 500):
        with database.transaction() as session:
            for _ in range(500):
                history_store.record_note(session, "big", evidence={"x": "y" * SIZE}, now=START)
    database.close()


def listen(service: Service, headers: dict[str, str]) -> socket.socket:
    """Ask for all events and read none of them."""
    deaf = socket.create_connection(("127.0.0.1", service.port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    asked = (
        f"GET /api/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n"
    )
    deaf.sendall(asked.encode())
    return deaf


def metrics(service: Service, headers: dict[str, str]) -> dict[str, float]:
    text = httpx2.get(f"{service.url}/metrics", headers=headers, timeout=PATIENCE).text
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, flags=re.MULTILINE)}


def test_deaf_readers_are_dropped_and_cost_the_others_nothing(service: Service) -> None:
    headers = service.admin()
    worker = service.register()
    write_events(service)
    memory = [metrics(service, headers)["process_resident_memory_bytes"]]

    def dropped() -> int:
        told = metrics(service, headers)
        memory.append(told["process_resident_memory_bytes"])
        return int(told["muster_event_streams_dropped_total"])

    with ExitStack() as held:
        for _ in range(DEAF):
            held.enter_context(closing(listen(service, headers)))
        wait_until(lambda: metrics(service, headers)["muster_event_streams"] == DEAF, SLOW)
        began = time.monotonic()
        with httpx2.stream("GET", f"{service.url}/api/events", headers=headers, timeout=PATIENCE) as heard:
            lines = heard.iter_lines()
            assert next(lines) == "retry: 3000"
            assert service.beat(worker).status_code == 200  # it becomes ACTIVE, which is an event
            assert "event: worker.transition" in lines  # after what the monitor may note
        assert time.monotonic() - began < 5 * crowding()
        wait_until(lambda: dropped() == DEAF, 2 * SLOW)
        wait_until(lambda: metrics(service, headers)["muster_event_streams"] == 0, 5)
        assert service.beat(worker).status_code == 200
    assert max(memory) - memory[0] < DEAF * EVENTS * SIZE / 2  # of what they asked for, little is held
    assert service.events().count("a reader of events was too slow and is dropped") == DEAF
