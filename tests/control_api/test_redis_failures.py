"""A real service with a real Redis that is killed and comes back: everybody is served, and limits go on counting."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from control_api.attempts import PAUSE, SHARED
from tests.control_api.processes import PATIENCE, Service, wait_until
from tests.control_api.servers import RedisServer


@pytest.fixture
def service(redis_server: RedisServer, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, REDIS_URL=redis_server.url).start()
    yield service
    if service.process is not None:
        service.stop(signal.SIGKILL)


def guess(service: Service) -> int:
    """Try a wrong password and return the status of the answer."""
    body = {"username": "nobody", "password": "wrong"}
    return httpx2.post(f"{service.url}/api/auth/login", json=body, timeout=PATIENCE).status_code


def degraded(service: Service) -> list[str]:
    ready = service.ready()
    assert ready["ready"] is True  # a degraded feature makes nobody unready
    return list(ready["degraded"])


def test_redis_is_killed_and_comes_back_while_everybody_is_served(
    service: Service, redis_server: RedisServer
) -> None:
    worker = service.register()
    assert degraded(service) == []
    assert [guess(service) for _ in range(6)] == [401] * 6

    redis_server.stop()  # SIGKILL
    assert service.admin()
    assert service.beat(worker).status_code == 200
    assert service.register(hostname="w2")["workerId"]
    assert degraded(service) == [SHARED]
    assert [guess(service) for _ in range(6)] == [401] * 4 + [429] * 2  # six were counted before

    redis_server.start()
    wait_until(lambda: degraded(service) == [], PAUSE + PATIENCE)
    assert guess(service) == 429  # the new Redis knows nothing of it, the process does
    assert service.beat(worker).status_code == 200
    assert service.process is not None
    assert service.process.poll() is None
    assert service.events().count("redis does not answer, limits are counted per process") == 1
