"""Real processes: who leads tells the receivers, what a killed leader left is told, and old history goes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.control_api.events.receiver import Receiver
from tests.control_api.processes import Service, wait_until
from tests.control_api.world import SETTINGS

Start = Callable[[], Service]
CHOICE = {
    "HEARTBEAT_TIMEOUT_MINUTES": "0.1",  # a timeout of 6 s, so a tick of 1 s; leaders may idle for 5 s
    "MUSTER_WEBHOOK_LOCAL": "true",
    "MUSTER_HISTORY_DAYS": "30",
}
OLD = "INSERT INTO transitions (reason, actor, evidence, at) VALUES (%s, 'monitor', '{}', now() - interval '40 days')"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def start(postgresql_url: str, tmp_path: Path) -> Iterator[Start]:
    made: list[Service] = []

    def make() -> Service:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Service(directory, **{**SETTINGS, **CHOICE, "DATABASE_URL": postgresql_url}))
        return made[-1].start()

    yield make
    for service in made:
        if service.process is not None:
            service.stop(signal.SIGKILL)


def ask(service: Service, method: str, path: str, **given: Any) -> dict[str, Any]:
    url = f"{service.url}/api/webhooks{path}"
    answer = httpx2.request(method, url, headers=service.admin(), timeout=20, **given)
    assert answer.is_success, answer.text
    return dict(answer.json()["data"])


def test_what_a_killed_leader_was_sending_is_sent_by_the_next(start: Start, receiver: Receiver) -> None:
    first, second = start(), start()
    made = ask(first, "POST", "", json={"url": receiver.url, "kinds": ["worker.registered"]})
    first.register(hostname="w1")
    wait_until(lambda: len(receiver.got) == 1, 20)
    receiver.open.clear()
    for name in ("w2", "w3"):
        second.register(hostname=name)
    wait_until(lambda: len(receiver.got) == 2, 20)
    first.stop(signal.SIGKILL)
    receiver.open.set()
    wait_until(lambda: len(receiver.got) == 4, 40)
    w1, w2, w3 = dict.fromkeys(receiver.events())
    assert receiver.events() == [w1, w2, w2, w3]

    def states() -> list[tuple[int, str]]:
        rows = ask(second, "GET", f"/{made['id']}/deliveries")["deliveries"]
        return [(row["eventId"], row["state"]) for row in rows]

    wait_until(lambda: states() == [(event, "delivered") for event in (w3, w2, w1)], 10)
    assert second.stop() == -signal.SIGTERM


def test_history_that_is_too_old_goes_when_a_leader_begins(start: Start, postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        for text in ("one", "two"):
            connection.execute(OLD, [text])
        start()

        def notes() -> list[Any]:
            return [row[0] for row in connection.execute("SELECT reason FROM transitions ORDER BY id")]

        wait_until(lambda: notes() == ["began"], 20)
